package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

const base64Prefix = "base64:"

// FormatKey writes a key as text: as it is where it is printable UTF-8, else
// "base64:" and its standard base64.
func FormatKey(key []byte) string {
	s := string(key)
	plain := utf8.ValidString(s) && !strings.HasPrefix(s, base64Prefix) && !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r == ',' || r == 0x7f
	})
	if plain {
		return s
	}
	return base64Prefix + base64.StdEncoding.EncodeToString(key)
}

// ParseKey is the reverse of FormatKey.
func ParseKey(s string) ([]byte, error) {
	coded, ok := strings.CutPrefix(s, base64Prefix)
	if !ok {
		return []byte(s), nil
	}
	key, err := base64.StdEncoding.DecodeString(coded)
	if err != nil {
		return nil, invalid("splits", "has a key with bad base64 %q: %v", coded, err)
	}
	return key, nil
}

// FormatKeys joins keys, formatted by FormatKey, with commas.
func FormatKeys(keys [][]byte) string {
	texts := make([]string, len(keys))
	for i, k := range keys {
		texts[i] = FormatKey(k)
	}
	return strings.Join(texts, ",")
}

// ParseKeys is the reverse of FormatKeys; the empty string is no keys.
func ParseKeys(s string) ([][]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys [][]byte
	for _, text := range strings.Split(s, ",") {
		key, err := ParseKey(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// MarshalJSON writes every field under its JSON key, in declared order: numbers
// and sizes in bytes as numbers, durations and enumerations as strings, split
// points as an array of strings.
func (c TopicConfig) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, f := range TopicFields() {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, f.JSON...)
		out = append(out, '"', ':')
		value, err := f.marshal(&c)
		if err != nil {
			return nil, fmt.Errorf("topic config: %s: %w", f.Name, err)
		}
		out = append(out, value...)
	}
	return append(out, '}'), nil
}

func (f *TopicField) marshal(c *TopicConfig) ([]byte, error) {
	switch f.Type {
	case "number", "bytes":
		return []byte(f.get(c)), nil
	case "keys":
		texts := make([]string, len(c.Splits))
		for i, k := range c.Splits {
			texts[i] = FormatKey(k)
		}
		return json.Marshal(texts)
	}
	return json.Marshal(f.get(c))
}

// UnmarshalJSON sets the fields whose keys are present and leaves the others
// alone. Numbers may be given as strings with a unit. A key which is no field is
// an error.
func (c *TopicConfig) UnmarshalJSON(b []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return fmt.Errorf("topic config: %w", err)
	}
	for _, f := range TopicFields() {
		value, ok := raw[f.JSON]
		if !ok {
			continue
		}
		delete(raw, f.JSON)
		if err := f.setJSON(c, value); err != nil {
			return err
		}
	}
	for key := range raw {
		return Errorf(CodeInvalidConfig, "topic config has no field %q", key)
	}
	return nil
}

func (f *TopicField) setJSON(c *TopicConfig, value json.RawMessage) error {
	if f.Type == "keys" {
		var texts []string
		if err := json.Unmarshal(value, &texts); err != nil {
			return invalid(f.Name, "must be an array of strings: %v", err)
		}
		keys := make([][]byte, len(texts))
		for i, text := range texts {
			key, err := ParseKey(text)
			if err != nil {
				return err
			}
			keys[i] = key
		}
		if c.Splits = keys; len(keys) == 0 {
			c.Splits = nil
		}
		return nil
	}
	text := string(value)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(value, &text); err != nil {
			return invalid(f.Name, "is not a JSON string: %v", err)
		}
	}
	return f.set(c, text)
}
