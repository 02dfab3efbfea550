package broker

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
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

// loadJSON reads one object. encoding/json alone would take a name in any case,
// and the last of two values without a word.
func (c *Config) loadJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return jsonError(data, d, err, "want one JSON object of settings, such as {\"listen\": \"127.0.0.1:7650\"}")
	}
	next, seen := *c, map[string]bool{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return jsonError(data, d, err, "")
		}
		s, err := settingNamed(name.(string)) // what else is no token here
		if err != nil {
			return err
		}
		if seen[s.Name] {
			return fmt.Errorf("%s is set twice: remove one", s.Name)
		}
		seen[s.Name] = true
		var value any
		if err := d.Decode(&value); err != nil {
			return jsonError(data, d, err, "")
		}
		if err := setJSON(reflect.ValueOf(&next).Elem().FieldByName(s.field), value); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	if _, err := d.Token(); err != nil {
		return jsonError(data, d, err, "")
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the object that ends before byte %d: remove it", d.InputOffset())
	}
	*c = next
	return nil
}

// jsonError says where JSON is not well-formed, or otherwise what is wanted.
func jsonError(data []byte, d *json.Decoder, err error, want string) error {
	var syntax *json.SyntaxError
	at := d.InputOffset()
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the file ends before its JSON object does: %w", io.ErrUnexpectedEOF)
	case err == nil:
		return errors.New(want)
	}
	line := 1 + bytes.Count(data[:min(at, int64(len(data)))], []byte("\n"))
	return fmt.Errorf("line %d is no JSON: %w", line, err)
}

// settingNamed finds a setting by its name in the configuration file.
func settingNamed(name string) (Setting, error) {
	all := Settings()
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	plain := strings.ReplaceAll(name, "_", "-")
	for _, s := range all {
		if strings.EqualFold(s.Name, plain) {
			return Setting{}, fmt.Errorf("no setting is called %q: write it %q", name, s.Name)
		}
	}
	return Setting{}, fmt.Errorf("no setting is called %q", name)
}

// setJSON sets a field from a JSON value. Sizes may be numbers, which are bytes;
// a duration says its unit.
func setJSON(f reflect.Value, value any) error {
	_, isSize := f.Interface().(Bytes)
	_, isTime := f.Interface().(Duration)
	switch v := value.(type) {
	case string:
		if f.Kind() == reflect.String || isSize || isTime {
			return setField(f, v)
		}
	case json.Number:
		if isSize || f.Kind() == reflect.Int || isTime && v == "0" {
			return setField(f, v.String())
		}
	case bool:
		if f.Kind() == reflect.Bool {
			f.SetBool(v)
			return nil
		}
	}
	want := "true or false"
	switch {
	case isSize:
		want = `a number of bytes, or a text such as "64MiB"`
	case isTime:
		want = `a text with a unit, such as "500ms" or "30s"`
	case f.Kind() == reflect.Int:
		want = "a whole number, without quotes"
	case f.Kind() == reflect.String:
		want = "a text in quotes"
	}
	text, _ := json.Marshal(value) // it was JSON before
	return fmt.Errorf("%.40s does not hold: write %s", text, want)
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
	s, err := settingNamed(name)
	if err != nil {
		return err
	}
	return setField(reflect.ValueOf(c).Elem().FieldByName(s.field), text)
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
