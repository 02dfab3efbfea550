package format

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

func sample() *sequitur.Record {
	return &sequitur.Record{
		Topic: "orders", Partition: 3, Offset: 41,
		Timestamp:  time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.FixedZone("", 3600)),
		AppendTime: time.Date(2026, 1, 2, 2, 4, 5, 7, time.UTC),
		Key:        []byte("alice"), Value: []byte("10\x00 EUR\r"),
		Headers: []sequitur.Header{{Key: "trace", Value: []byte("a1")}, {Key: "empty", Value: nil}},
	}
}

func TestTemplate(t *testing.T) {
	for format, want := range map[string]string{
		"":                     "",
		Default:                "10\x00 EUR\r\n",
		`%v`:                   "10\x00 EUR\r",
		`%p %o %k %v\n`:        "3 41 alice 10\x00 EUR\r\n",
		`%T/%p@%o`:             "orders/3@41",
		`%t|%a`:                "2026-01-02T02:04:05.006Z|2026-01-02T02:04:05.000000007Z",
		`%h`:                   "trace=a1,empty=",
		`%K %V`:                "5 8",
		`100%% \\ \t\r\0\x00|`: "100% \\ \t\r\x00\x00|",
		`\xff\x0A%k%k`:         "\xff\nalicealice",
		"käse ☃ %k":            "käse ☃ alice",
	} {
		tmpl, err := Parse(format)
		require.NoError(t, err, format)
		require.Equal(t, want, string(tmpl.Append(nil, sample())), format)
		require.Equal(t, "before"+want, string(tmpl.Append([]byte("before"), sample())), format)
	}
}

func TestTemplateOfAbsentParts(t *testing.T) {
	tmpl, err := Parse(`[%k|%v|%h|%K|%V]`)
	require.NoError(t, err)
	require.Equal(t, "[|||-1|-1]", string(tmpl.Append(nil, &sequitur.Record{})))
	require.Equal(t, "[|||0|0]", string(tmpl.Append(nil, &sequitur.Record{Key: []byte{}, Value: []byte{}})))
}

func TestTemplateRefusesWhatItDoesNotKnow(t *testing.T) {
	for format, want := range map[string]string{
		`%`:        "middle of a verb",
		`a%v%`:     "middle of a verb",
		`%z`:       "no verb %z",
		`%` + "\n": "no verb",
		`%v\`:      "middle of an escape",
		`\q`:       `no escape \q`,
		`\x`:       "two hexadecimal digits",
		`\x1`:      "two hexadecimal digits",
		`\xg1`:     "two hexadecimal digits",
		`ok \x-1`:  "two hexadecimal digits",
	} {
		_, err := Parse(format)
		require.ErrorContains(t, err, want, format)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{Default, `%p %o %k %v\n`, `\x00%%`, `%`, `\`, `\x1`, "%\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tmpl, err := Parse(s)
		if err != nil {
			return
		}
		out := string(tmpl.Append(nil, sample()))
		if !strings.ContainsAny(s, `%\`) {
			require.Equal(t, s, out, "plain text prints itself")
		}
	})
}

// decoded is how a reader of the JSON gets the bytes back.
type decoded struct {
	Topic      string    `json:"topic"`
	Partition  int32     `json:"partition"`
	Offset     int64     `json:"offset"`
	Timestamp  time.Time `json:"timestamp"`
	AppendTime time.Time `json:"append_time"`
	text
	Headers []struct {
		text
	} `json:"headers"`
}

type text struct {
	Key         *string `json:"key"`
	KeyBase64   *string `json:"key_base64"`
	Value       *string `json:"value"`
	ValueBase64 *string `json:"value_base64"`
}

func bytesOf(t *testing.T, plain, b64 *string) []byte {
	if b64 != nil {
		require.Nil(t, plain)
		b, err := base64.StdEncoding.DecodeString(*b64)
		require.NoError(t, err)
		return b
	}
	if plain == nil {
		return nil
	}
	return append([]byte{}, *plain...)
}

func TestJSON(t *testing.T) {
	require.Equal(t, `{"topic":"orders","partition":3,"offset":41,"timestamp":"2026-01-02T02:04:05.006Z",`+
		`"append_time":"2026-01-02T02:04:05.000000007Z","key":"alice","value":"10\u0000 EUR\r",`+
		`"headers":[{"key":"trace","value":"a1"},{"key":"empty","value":null}]}`+"\n", string(AppendJSON(nil, sample())))
	require.Equal(t, `{"topic":"t","partition":0,"offset":0,"timestamp":"1970-01-01T00:00:00.000Z",`+
		`"append_time":"1970-01-01T00:00:00.000000000Z","key":null,"value":""}`+"\n",
		string(AppendJSON(nil, &sequitur.Record{Topic: "t", Value: []byte{}, Timestamp: time.Unix(0, 0), AppendTime: time.Unix(0, 0)})))
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), "header")
	f.Add([]byte{0xff}, []byte("\"\\\n\x01\u2028<>&"), "\xc3")
	f.Fuzz(func(t *testing.T, key, value []byte, header string) {
		rec := sample()
		rec.Key, rec.Value = key, value
		rec.Headers = []sequitur.Header{{Key: header, Value: value}}
		line := AppendJSON(nil, rec)
		require.True(t, utf8.Valid(line))
		require.Equal(t, 1, strings.Count(string(line), "\n"))
		var got decoded
		require.NoError(t, json.Unmarshal(line, &got), "%s", line)
		require.Equal(t, key, bytesOf(t, got.Key, got.KeyBase64))
		require.Equal(t, value, bytesOf(t, got.Value, got.ValueBase64))
		require.Equal(t, header, string(bytesOf(t, got.Headers[0].Key, got.Headers[0].KeyBase64)))
		require.Equal(t, value, bytesOf(t, got.Headers[0].Value, got.Headers[0].ValueBase64))
		require.True(t, got.AppendTime.Equal(rec.AppendTime))
	})
}

func BenchmarkTemplate(b *testing.B) {
	tmpl, err := Parse(`%p %o %k %v\n`)
	require.NoError(b, err)
	rec, buf := sample(), make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = tmpl.Append(buf[:0], rec)
	}
}

func BenchmarkJSON(b *testing.B) {
	rec, buf := sample(), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendJSON(buf[:0], rec)
	}
}
