// Package format prints consumed records for `broker consume`: by a template
// with verbs (%p %o %k %v ...), byte for byte, or as one JSON object a line.
package format

import (
	"fmt"
	"strconv"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// Default prints a record's value and a LF: what `broker produce` reads.
const Default = `%v\n`

// Timestamps are printed in UTC, with the precision that they are stored in:
// producers give milliseconds, the broker stamps nanoseconds. Both are RFC 3339
// and are accepted by `broker consume --from`.
const (
	timestampLayout  = "2006-01-02T15:04:05.000Z07:00"
	appendTimeLayout = "2006-01-02T15:04:05.000000000Z07:00"
)

// Help lists the verbs and escapes of a template.
const Help = `  %v value              %k key                 %h headers, as key=value,key=value
  %T topic              %p partition           %o offset
  %t producer's time    %a append time         (RFC 3339, UTC)
  %V value's length     %K key's length        (bytes; -1 where there is none)
  %% a percent sign     \n \t \r \0 \\ \xNN    bytes by escape`

// literal marks a part that prints its text. Any other verb is the letter
// after the percent sign.
const literal = 0

type part struct {
	verb byte
	text []byte
}

// Template is a parsed format. It is immutable and safe for concurrent use.
type Template struct{ parts []part }

// Parse reads a format. Verbs and escapes that do not exist are refused, with
// the position in the error.
func Parse(format string) (*Template, error) {
	t := &Template{}
	var text []byte
	for i := 0; i < len(format); i++ {
		switch format[i] {
		case '%':
			if i+1 == len(format) {
				return nil, fmt.Errorf("format %q ends in the middle of a verb: write %%%% for a percent sign", format)
			}
			i++
			switch verb := format[i]; verb {
			case '%':
				text = append(text, '%')
			case 'v', 'k', 'h', 'T', 'p', 'o', 't', 'a', 'V', 'K':
				if len(text) > 0 {
					t.parts = append(t.parts, part{literal, text})
					text = nil
				}
				t.parts = append(t.parts, part{verb: verb})
			default:
				return nil, fmt.Errorf("format %q has no verb %%%c (position %d); verbs are %%v %%k %%h %%T %%p %%o %%t %%a %%V %%K %%%%", format, verb, i)
			}
		case '\\':
			b, used, err := escape(format, i)
			if err != nil {
				return nil, err
			}
			text = append(text, b)
			i += used - 1
		default:
			text = append(text, format[i])
		}
	}
	if len(text) > 0 {
		t.parts = append(t.parts, part{literal, text})
	}
	return t, nil
}

// escape reads the escape at format[i] and returns its byte and length.
func escape(format string, i int) (b byte, used int, err error) {
	rest := format[i+1:]
	if rest == "" {
		return 0, 0, fmt.Errorf(`format %q ends in the middle of an escape: write \\ for a backslash`, format)
	}
	switch rest[0] {
	case 'n':
		return '\n', 2, nil
	case 't':
		return '\t', 2, nil
	case 'r':
		return '\r', 2, nil
	case '0':
		return 0, 2, nil
	case '\\':
		return '\\', 2, nil
	case 'x':
		if len(rest) >= 3 {
			if v, err := strconv.ParseUint(rest[1:3], 16, 8); err == nil {
				return byte(v), 4, nil
			}
		}
		return 0, 0, fmt.Errorf(`format %q: \x needs two hexadecimal digits (position %d)`, format, i+1)
	}
	return 0, 0, fmt.Errorf(`format %q has no escape \%c (position %d); escapes are \n \t \r \0 \\ \xNN`, format, rest[0], i+1)
}

// Append appends rec, printed by the template, to dst. A key or value that is
// not there prints nothing (-1 as a length).
func (t *Template) Append(dst []byte, rec *sequitur.Record) []byte {
	for i := range t.parts {
		switch p := &t.parts[i]; p.verb {
		case literal:
			dst = append(dst, p.text...)
		case 'v':
			dst = append(dst, rec.Value...)
		case 'k':
			dst = append(dst, rec.Key...)
		case 'h':
			dst = appendHeaders(dst, rec.Headers)
		case 'T':
			dst = append(dst, rec.Topic...)
		case 'p':
			dst = strconv.AppendInt(dst, int64(rec.Partition), 10)
		case 'o':
			dst = strconv.AppendInt(dst, rec.Offset, 10)
		case 't':
			dst = appendTime(dst, rec.Timestamp, timestampLayout)
		case 'a':
			dst = appendTime(dst, rec.AppendTime, appendTimeLayout)
		case 'V':
			dst = appendLength(dst, rec.Value)
		case 'K':
			dst = appendLength(dst, rec.Key)
		}
	}
	return dst
}

func appendHeaders(dst []byte, headers []sequitur.Header) []byte {
	for i, h := range headers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, h.Key...)
		dst = append(dst, '=')
		dst = append(dst, h.Value...)
	}
	return dst
}

func appendTime(dst []byte, t time.Time, layout string) []byte {
	return t.UTC().AppendFormat(dst, layout)
}

func appendLength(dst, b []byte) []byte {
	if b == nil {
		return append(dst, "-1"...)
	}
	return strconv.AppendInt(dst, int64(len(b)), 10)
}

// Unescape replaces the escapes of templates in s; a percent sign is itself.
func Unescape(s string) (string, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		b, used, err := escape(s, i)
		if err != nil {
			return "", err
		}
		out = append(out, b)
		i += used - 1
	}
	return string(out), nil
}
