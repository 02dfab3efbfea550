package lines

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func readAll(t testing.TB, r *Reader) ([]string, error) {
	t.Helper()
	var all []string
	for {
		line, err := r.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, string(line))
		require.Equal(t, int64(len(all)), r.Number())
	}
}

func TestSplitsAtLFAndNowhereElse(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":           {"", nil},
		"one":               {"a\n", []string{"a"}},
		"no final LF":       {"a\nb", []string{"a", "b"}},
		"empty lines":       {"\n\na\n\n", []string{"", "", "a", ""}},
		"CRLF":              {"a\r\nb\r\n", []string{"a\r", "b\r"}},
		"lone CR":           {"a\rb\n\r", []string{"a\rb", "\r"}},
		"NUL":               {"a\x00b\n\x00\n", []string{"a\x00b", "\x00"}},
		"other line breaks": {"a\u2028b\x0b\x0c\x85\n", []string{"a\u2028b\x0b\x0c\x85"}},
		"not UTF-8":         {"\xff\xfe\n\xc3\n", []string{"\xff\xfe", "\xc3"}},
	} {
		t.Run(name, func(t *testing.T) {
			for reads, in := range map[string]io.Reader{
				"whole":      strings.NewReader(c.in),
				"one byte":   iotest.OneByteReader(strings.NewReader(c.in)),
				"data + EOF": iotest.DataErrReader(strings.NewReader(c.in)),
			} {
				got, err := readAll(t, NewReader(in, 1<<20))
				require.NoError(t, err, reads)
				require.Equal(t, c.want, got, reads)
			}
			r := NewReader(iotest.HalfReader(strings.NewReader(c.in)), 1<<20)
			for left := len(c.want); left > 0; left-- {
				rest := NewReader(strings.NewReader(c.in), 1<<20)
				for range len(c.want) - left {
					_, err := rest.Next()
					require.NoError(t, err)
				}
				n, err := rest.CountRest()
				require.NoError(t, err)
				require.Equal(t, int64(left), n)
			}
			n, err := r.CountRest()
			require.NoError(t, err)
			require.Equal(t, int64(len(c.want)), n)
		})
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	got, err := readAll(t, NewReader(strings.NewReader("a\n"+long+"\nb\n"+long), len(long)))
	require.NoError(t, err)
	require.Equal(t, []string{"a", long, "b", long}, got)

	for _, in := range []string{"a\n" + long + "\nb\n", "a\n" + long} {
		r := NewReader(strings.NewReader(in), len(long)-1)
		got, err = readAll(t, r)
		var tooLong *TooLongError
		require.ErrorAs(t, err, &tooLong)
		require.Equal(t, TooLongError{Line: 2, Limit: len(long) - 1}, *tooLong)
		require.Equal(t, []string{"a"}, got)
		_, again := r.Next()
		require.Equal(t, err, again, "a refused line is final: nothing after it may pass")
		rest, err := r.CountRest()
		require.NoError(t, err)
		require.Equal(t, int64(strings.Count(in+"\n", "\n")-strings.Count(in[len(in)-1:], "\n")-1), rest)
	}
}

func TestEndlessLineIsBounded(t *testing.T) {
	r := NewReader(zeros{}, 1<<20)
	_, err := r.Next()
	var tooLong *TooLongError
	require.ErrorAs(t, err, &tooLong)
	require.LessOrEqual(t, len(r.buf), 1<<20+readSize+1)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTornLineOfAFailedReadIsNotALine(t *testing.T) {
	broken := errors.New("device on fire")
	r := NewReader(io.MultiReader(strings.NewReader("a\nb\ntorn"), iotest.ErrReader(broken)), 1<<20)
	got, err := readAll(t, r)
	require.ErrorIs(t, err, broken)
	require.Equal(t, []string{"a", "b"}, got)
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("a\r\nb\x00\n\nlast"), uint8(3), uint8(7))
	f.Add([]byte("\n"), uint8(0), uint8(1))
	f.Add([]byte(""), uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, limit, chunk uint8) {
		r := NewReader(&chunked{in, int(chunk)%16 + 1}, int(limit))
		got, err := readAll(t, r)
		want := bytes.Split(in, []byte{'\n'})
		if len(want[len(want)-1]) == 0 {
			want = want[:len(want)-1]
		}
		for i, line := range want {
			if len(line) > int(limit) {
				var tooLong *TooLongError
				require.ErrorAs(t, err, &tooLong)
				require.Equal(t, int64(i+1), tooLong.Line)
				require.Len(t, got, i)
				rest, err := r.CountRest()
				require.NoError(t, err)
				require.Equal(t, int64(len(want)-i), rest)
				return
			}
			require.Equal(t, string(line), got[i])
		}
		require.NoError(t, err)
		require.Len(t, got, len(want))
		require.Equal(t, int64(len(in)), r.BytesRead())
		n, err := NewReader(bytes.NewReader(in), int(limit)).CountRest()
		require.NoError(t, err)
		require.Equal(t, int64(len(want)), n)
	})
}

type chunked struct {
	rest []byte
	n    int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(c.n, len(p))], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func TestKeys(t *testing.T) {
	const none = "(none)"
	regex := func(re string) Key {
		k, err := RegexKey(re)
		require.NoError(t, err)
		return k
	}
	field := func(n int, delimiter string) Key {
		k, err := FieldKey(n, delimiter)
		require.NoError(t, err)
		return k
	}
	for _, c := range []struct {
		key        Key
		line, want string
	}{
		{NoKey{}, "a b", none},
		{regex(`blk_-?\d+`), "x blk_-123 blk_4\r", "blk_-123"},
		{regex(`blk_-?\d+`), "nothing here", none},
		{regex(`sshd\[(\d+)\]`), "LabSZ sshd[24200]: hello", "24200"},
		{regex(`(a)|b`), "b", none},
		{regex(`(a)|b`), "ba", none},
		{regex(`x*`), "yyy", ""},
		{field(1, ""), "  one two\tthree\r", "one"},
		{field(3, ""), "one two\tthree\r", "three"},
		{field(4, ""), "one two\tthree\r", none},
		{field(1, ""), "", none},
		{field(1, ","), "a,b,,d", "a"},
		{field(3, ","), "a,b,,d", ""},
		{field(4, ","), "a,b,,d", "d"},
		{field(5, ","), "a,b,,d", none},
		{field(1, ","), "", ""},
		{field(2, "::"), "a::b:c::d", "b:c"},
		{field(2, "\x00"), "a\x00b\x00c", "b"},
	} {
		got, ok := c.key.Key([]byte(c.line))
		if !ok {
			got = []byte(none)
		}
		require.Equal(t, c.want, string(got), "%#v of %q", c.key, c.line)
	}
	_, err := RegexKey("a(")
	require.ErrorContains(t, err, "missing closing")
	_, err = FieldKey(0, ",")
	require.ErrorContains(t, err, "from 1")
}

// A key aliases its line, and growing it may not overwrite what follows.
func TestKeyCannotGrowIntoItsLine(t *testing.T) {
	line := []byte("key rest")
	k, err := FieldKey(1, " ")
	require.NoError(t, err)
	key, _ := k.Key(line)
	_ = append(key, '!')
	require.Equal(t, "key rest", string(line))
}

func BenchmarkReader(b *testing.B) {
	in := bytes.Repeat([]byte(strings.Repeat("x", 127)+"\n"), 8192)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		r := NewReader(bytes.NewReader(in), 1<<20)
		for {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	}
}

func BenchmarkRegexKey(b *testing.B) {
	k, err := RegexKey(`blk_-?\d+`)
	require.NoError(b, err)
	line := []byte("081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_38865049064139660 terminating\r")
	b.ReportAllocs()
	for b.Loop() {
		k.Key(line)
	}
}
