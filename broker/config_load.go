package broker

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
)

// EnvPrefix starts the names of the environment variables that set Config.
const EnvPrefix = "SEQUITUR_"

// LoadFile sets what a JSON file says on top of c. A name that Config does
// not have is an error, so that a misspelt setting does not pass silently.
func (c *Config) LoadFile(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if err := c.loadJSON(data); err != nil {
		return fmt.Errorf("configuration file %s: %w", path, err)
	}
	return nil
}

func (c *Config) loadJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	next := *c
	if err := d.Decode(&next); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the object that ends at byte %d: remove it", d.InputOffset())
	}
	*c = next
	return nil
}

// LoadEnv sets what the environment says on top of c. Setting NAME-OF-FIELD
// is the variable SEQUITUR_NAME_OF_FIELD.
func (c *Config) LoadEnv(lookup func(string) (string, bool)) error {
	v := reflect.ValueOf(c).Elem()
	for _, s := range Settings() {
		text, ok := lookup(s.Env)
		if !ok {
			continue
		}
		if err := setField(v.FieldByName(s.field), text); err != nil {
			return fmt.Errorf("environment %s: %w", s.Env, err)
		}
	}
	return nil
}

// Set sets one field by its name in the configuration file.
func (c *Config) Set(name, text string) error {
	for _, s := range Settings() {
		if s.Name == name {
			return setField(reflect.ValueOf(c).Elem().FieldByName(s.field), text)
		}
	}
	return fmt.Errorf("no setting is called %q", name)
}

func setField(f reflect.Value, text string) error {
	if u, ok := f.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		f.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		f.SetInt(int64(n))
	default:
		return fmt.Errorf("a %s cannot be set from the environment", f.Kind())
	}
	return nil
}

// Setting describes one field of Config.
type Setting struct {
	Name    string // in the configuration file
	Env     string // in the environment
	Default string
	Doc     string
	field   string
}

// Settings lists the fields of Config in declared order with their defaults.
func Settings() []Setting {
	defaults := DefaultConfig()
	v := reflect.ValueOf(defaults)
	var out []Setting
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("json")
		if name == "-" || !f.IsExported() {
			continue
		}
		out = append(out, Setting{
			Name:    name,
			Env:     EnvPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_")),
			Default: settingText(v.Field(i)),
			Doc:     f.Tag.Get("doc"),
			field:   f.Name,
		})
	}
	return out
}

func settingText(f reflect.Value) string {
	if m, ok := f.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err == nil {
			return string(text)
		}
	}
	return fmt.Sprint(f.Interface())
}

// SettingsTable returns the table of docs/operations.md.
func SettingsTable() string {
	var b strings.Builder
	b.WriteString("| setting | environment | default | what it does |\n|---|---|---|---|\n")
	for _, s := range Settings() {
		fmt.Fprintf(&b, "| `%s` | `%s` | `%s` | %s |\n", s.Name, s.Env, s.Default, s.Doc)
	}
	return b.String()
}
