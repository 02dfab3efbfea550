package lines

import (
	"bytes"
	"fmt"
	"regexp"
)

// Key picks the key out of a line. ok is false when the line has none; such a
// record is sent without a key. The key aliases the line.
type Key interface {
	Key(line []byte) (key []byte, ok bool)
}

// NoKey gives no line a key.
type NoKey struct{}

// Key implements the interface Key.
func (NoKey) Key([]byte) ([]byte, bool) { return nil, false }

type regexKey struct{ re *regexp.Regexp }

// RegexKey takes the first match of a regular expression (RE2 syntax), or its
// first group where it has groups. A line that does not match, or whose first
// group took no part in the match, has no key.
func RegexKey(expression string) (Key, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("regular expression %q: %w", expression, err)
	}
	return regexKey{re}, nil
}

func (k regexKey) Key(line []byte) ([]byte, bool) {
	if k.re.NumSubexp() == 0 {
		loc := k.re.FindIndex(line)
		if loc == nil {
			return nil, false
		}
		return line[loc[0]:loc[1]:loc[1]], true
	}
	loc := k.re.FindSubmatchIndex(line)
	if loc == nil || loc[2] < 0 {
		return nil, false
	}
	return line[loc[2]:loc[3]:loc[3]], true
}

type fieldKey struct {
	n         int
	delimiter []byte
}

// FieldKey takes the n-th field, from 1. With a delimiter, fields are what is
// between its occurrences, and may be empty, as with cut(1). Without one,
// fields are runs of bytes other than space, tab and CR, as with awk(1). A
// line with fewer fields has no key.
func FieldKey(n int, delimiter string) (Key, error) {
	if n < 1 {
		return nil, fmt.Errorf("field %d: fields are counted from 1", n)
	}
	return fieldKey{n, []byte(delimiter)}, nil
}

func (k fieldKey) Key(line []byte) ([]byte, bool) {
	if len(k.delimiter) == 0 {
		return k.word(line)
	}
	for i := 1; ; i++ {
		end := bytes.Index(line, k.delimiter)
		if i == k.n {
			if end >= 0 {
				line = line[:end:end]
			}
			return line, true
		}
		if end < 0 {
			return nil, false
		}
		line = line[end+len(k.delimiter):]
	}
}

func (k fieldKey) word(line []byte) ([]byte, bool) {
	const blank = " \t\r"
	for i := 1; ; i++ {
		line = bytes.TrimLeft(line, blank)
		if len(line) == 0 {
			return nil, false
		}
		end := bytes.IndexAny(line, blank)
		if i == k.n {
			if end >= 0 {
				line = line[:end:end]
			}
			return line, true
		}
		if end < 0 {
			return nil, false
		}
		line = line[end:]
	}
}
