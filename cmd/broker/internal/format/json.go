package format

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// AppendJSON appends rec as one JSON object and a LF:
//
//	{"topic":"t","partition":0,"offset":7,"timestamp":"...","append_time":"...",
//	 "key":null,"value":"text","headers":[{"key":"k","value":"v"}]}
//
// Text that is not UTF-8 comes as base64 under the same name with "_base64"
// appended ("value_base64"); a key or value that is not there is null.
// "headers" is left out where there are none.
func AppendJSON(dst []byte, rec *sequitur.Record) []byte {
	dst = append(dst, `{"topic":`...)
	dst = appendQuoted(dst, []byte(rec.Topic))
	dst = append(dst, `,"partition":`...)
	dst = strconv.AppendInt(dst, int64(rec.Partition), 10)
	dst = append(dst, `,"offset":`...)
	dst = strconv.AppendInt(dst, rec.Offset, 10)
	dst = append(dst, `,"timestamp":"`...)
	dst = appendTime(dst, rec.Timestamp, timestampLayout)
	dst = append(dst, `","append_time":"`...)
	dst = appendTime(dst, rec.AppendTime, appendTimeLayout)
	dst = append(dst, `",`...)
	dst = appendText(dst, "key", rec.Key)
	dst = append(dst, ',')
	dst = appendText(dst, "value", rec.Value)
	if len(rec.Headers) > 0 {
		dst = append(dst, `,"headers":[`...)
		for i, h := range rec.Headers {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, '{')
			dst = appendText(dst, "key", append([]byte{}, h.Key...))
			dst = append(dst, ',')
			dst = appendText(dst, "value", h.Value)
			dst = append(dst, '}')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}', '\n')
}

// appendText appends a member: text as a string, other bytes as base64.
func appendText(dst []byte, name string, b []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	switch {
	case b == nil:
		return append(dst, `":null`...)
	case utf8.Valid(b):
		dst = append(dst, `":`...)
		return appendQuoted(dst, b)
	}
	dst = append(dst, `_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// appendQuoted appends valid UTF-8 as a JSON string.
func appendQuoted(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
