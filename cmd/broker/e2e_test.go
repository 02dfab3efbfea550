package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// The banner's lines, copied into a shell, are a first message.
func TestFirstMessage(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, filepath.Join(dir, "data"), "", "--http", "127.0.0.1:0")
	require.Contains(t, s.banner, "acknowledged means flushed to disk")
	require.Contains(t, s.banner, "/healthz")
	_, next, found := strings.Cut(s.banner, "another terminal:\n")
	require.True(t, found, s.banner)
	script, _, _ := strings.Cut(next, "\n\n")
	require.Equal(t, 3, strings.Count(script, "\n")+1, script)
	out, err := exec.Command("sh", "-e", "-c", script).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "\nhello\n")
	r := s.stop()
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stderr, "stopped, everything is on disk")
	clean(t, filepath.Join(dir, "data"))
}

func TestTopicCommands(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	require.Contains(t, run(t, s.addr, nil, "topic", "list").stderr, "no topics yet")
	require.Equal(t, "[]\n", ok(t, s.addr, nil, "topic", "list", "--json"))

	out := ok(t, s.addr, nil, "topic", "create", "orders", "audit", "--partitions", "3", "--retention-time", "30d", "--retention-bytes", "1GiB", "--fsync", "interval")
	require.Contains(t, out, "created topic orders: ")
	require.Contains(t, out, "created topic audit: ")
	ok(t, s.addr, nil, "topic", "create", "users", "--partitioner", "range", "--splits", "g,n,t")
	ok(t, s.addr, nil, "topic", "create", "ring", "--partitioner", "ring", "--partitions", "4", "--cleanup", "compact")
	require.Contains(t, ok(t, s.addr, nil, "topic", "create", "ghost", "--dry-run"), "would create topic ghost")

	var listed []topicJSON
	require.NoError(t, json.Unmarshal([]byte(ok(t, s.addr, nil, "topic", "list", "--json")), &listed))
	names := ""
	for _, topic := range listed {
		names += topic.Name + " "
	}
	require.Equal(t, "audit orders ring users ", names)
	table := ok(t, s.addr, nil, "topic", "list")
	require.Regexp(t, `(?m)^orders +3 +0 .* interval +delete +30d, 1GiB +no$`, table)

	var d topicJSON
	require.NoError(t, json.Unmarshal([]byte(ok(t, s.addr, nil, "topic", "describe", "users", "--json")), &d))
	require.Equal(t, uint32(4), d.Config.Partitions)
	require.Len(t, d.Partitions, 4)
	require.Equal(t, [][]byte{[]byte("g"), []byte("n"), []byte("t")}, d.Config.Splits)
	text := ok(t, s.addr, nil, "topic", "describe", "orders")
	require.Regexp(t, `(?m)^retention-time +30d$`, text)
	require.Regexp(t, `(?m)^segment-bytes +128MiB +\(default\)$`, text)
	require.Regexp(t, `(?m)^PARTITION +START +END`, text)

	require.Contains(t, ok(t, s.addr, nil, "topic", "alter", "orders", "--retention-time", "90d", "--fsync", "always"),
		"topic orders: retention-time was 30d, is 90d\n")
	require.Regexp(t, `(?m)^fsync +always +\(default\)$`, ok(t, s.addr, nil, "topic", "describe", "orders"))
	require.Contains(t, ok(t, s.addr, nil, "topic", "alter", "orders", "--retention-time", "90d"), "nothing changed")
	r := run(t, s.addr, nil, "topic", "alter", "orders", "--partitions", "9")
	require.Equal(t, exitUsage, r.code, r.stderr)
	require.Contains(t, r.stderr, "partitions cannot be altered")

	r = run(t, s.addr, nil, "topic", "create", "orders")
	require.Equal(t, exitInUse, r.code)
	require.Contains(t, r.stderr, `topic "orders" exists already`)
	require.Contains(t, ok(t, s.addr, nil, "topic", "create", "orders", "--if-not-exists"), "left as it is")

	require.Equal(t, "audit\norders\nring\nusers\n:4\n", ok(t, s.addr, nil, "__complete", "consume", ""))
	require.Equal(t, "audit\norders\nusers\n:4\n", ok(t, s.addr, nil, "__complete", "topic", "delete", "ring", ""))
	require.Contains(t, ok(t, s.addr, nil, "topic", "delete", "audit", "ring"), "deleted topic ring")
	r = run(t, s.addr, nil, "topic", "delete", "audit")
	require.Equal(t, exitNotFound, r.code)
	ok(t, s.addr, nil, "topic", "delete", "audit", "--if-exists")
	require.Equal(t, exitOK, s.stop().code)
}

func TestErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, filepath.Join(dir, "data"), "")
	ok(t, s.addr, nil, "topic", "create", "orders", "--partitions", "4")
	for _, c := range []struct {
		line string
		code int
		want []string
	}{
		{"produce ordres", exitNotFound, []string{`there is no topic "ordres"`, "did you mean orders?", "topic create ordres"}},
		{"consume ordres", exitNotFound, []string{`there is no topic "ordres"`, "did you mean orders?"}},
		{"topic describe zzz", exitNotFound, []string{`there is no topic "zzz"`, "topic list"}},
		{"topic alter zzz --fsync never", exitNotFound, []string{`there is no topic "zzz"`}},
		{"topic delete zzz", exitNotFound, []string{`there is no topic "zzz"`}},
		{"produce orders --partition 4", exitNotFound, []string{"has no partition 4", "0 to 3"}},
		{"consume orders --partition 4", exitNotFound, []string{"has no partition 4", "0 to 3"}},
		{"consume orders --from 7", exitUsage, []string{"--from OFFSET needs one partition", "0 to 3"}},
		{"consume orders --from 7 --partition 1", exitNotFound, []string{"partition 1 is empty", "next offset is 0"}},
		{"produce orders --file no/such/file", exitNotFound, []string{"there is no file"}},
		{"produce orders --file .", exitUsage, []string{"is a directory"}},
		{"consume orders --follow --count 1 --timeout 50ms", exitTimeout, []string{"no record came for 50ms"}},
		{"check " + filepath.Join(dir, "data"), exitInUse, []string{"in use by a broker"}},
		{"serve --listen 127.0.0.1:0 --http  --data /dev/null", exitFailure, []string{"not a directory", "--data DIR"}},
		{"check no/such/dir", exitNotFound, []string{"no/such/dir"}},
		{"log dump no/such/file", exitNotFound, []string{"no/such/file"}},
		{"serve --config no/such/file", exitNotFound, []string{"no/such/file"}},
		{"serve --http  --listen 127.0.0.1:0 --data " + filepath.Join(dir, "data"), exitInUse, []string{"in use by another broker", "serve --data DIR"}},
		{"serve --http  --listen " + s.addr + " --data " + filepath.Join(dir, "other"), exitInUse, []string{fmt.Sprintf("the address %s is in use by another broker: process %d, with its data in %s", s.addr, s.cmd.Process.Pid, filepath.Join(dir, "data")), "--listen"}},
		{"serve --listen 127.0.0.1:0 --http " + s.addr + " --data " + filepath.Join(dir, "other"), exitInUse, []string{"the address " + s.addr + " is in use", "--http"}},
	} {
		args := strings.Split(c.line, " ")
		r := run(t, s.addr, nil, args...)
		require.Equal(t, c.code, r.code, "%s\n%s", c.line, r.stderr)
		for _, want := range c.want {
			require.Contains(t, r.stderr, want, c.line)
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { // something else than a broker
		for {
			conn, err := free.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n")
			conn.Close()
		}
	}()
	for _, flag := range []string{"--listen", "--http"} {
		r := run(t, "", nil, "serve", "--data", filepath.Join(dir, "other"), "--listen", "127.0.0.1:0", "--http", "", flag, free.Addr().String())
		require.Equal(t, exitInUse, r.code, r.stderr)
		require.Contains(t, r.stderr, "the address "+free.Addr().String()+" is in use\n")
		require.Contains(t, r.stderr, "serve "+flag+" 127.0.0.1:0")
		require.Contains(t, r.stderr, "see which process it is with: ss")
	}
	nobody := free.Addr().String()
	require.NoError(t, free.Close())
	for _, line := range []string{"topic list", "topic create x", "produce orders", "consume orders"} {
		r := run(t, nobody, []byte("a\nb"), strings.Fields(line)...)
		require.Equal(t, exitUnreachable, r.code, line)
		require.Contains(t, r.stderr, "no broker answers at "+nobody+": connection refused")
		require.Contains(t, r.stderr, "serve")
	}
	r := run(t, nobody, []byte("a\nb"), "produce", "orders", "--json")
	require.Equal(t, int64(2), summary(t, r.stdout).NotSent)
	r = run(t, nobody, nil, "topic", "list", "--server", s.addr)
	require.Equal(t, exitOK, r.code, "--server is stronger than the environment: %s", r.stderr)
}

// awkward are lines that line-oriented tools like to damage.
func awkward() [][]byte {
	return [][]byte{
		[]byte("plain"), nil, []byte("\r"), []byte("crlf\r"), []byte("a\rb"), []byte("\x00"), []byte("nul\x00in\x00side"),
		[]byte(" leading and trailing "), []byte("\t"), []byte("käse ☃"), []byte("\xff\xfe not UTF-8 \xc3"), []byte("\u2028\u0085\x0b\x0c"),
		[]byte(`%v \n "quoted"`), bytes.Repeat([]byte("long "), 100_000), nil, []byte("last"),
	}
}

func TestEveryByteComesBack(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	want := bytes.Join(awkward(), []byte("\n")) // the last line has no LF
	for _, codec := range []string{"none", "s2", "zstd"} {
		ok(t, s.addr, nil, "topic", "create", codec)
		r := run(t, s.addr, want, "produce", codec, "--compression", codec, "--json")
		require.Equal(t, exitOK, r.code, r.stderr)
		a := summary(t, r.stdout)
		require.Equal(t, int64(len(awkward())), a.Acknowledged)
		require.Zero(t, a.Failed+a.NotSent+a.FirstMissing)
		got := ok(t, s.addr, nil, "consume", codec)
		require.True(t, string(want)+"\n" == got, "what was produced comes back, the last line with a LF")
		exact := ok(t, s.addr, nil, "consume", codec, "--format", `%v\x00\x0a`)
		require.True(t, string(bytes.Join(awkward(), []byte("\x00\n")))+"\x00\n" == exact)
	}

	file := filepath.Join(t.TempDir(), "input")
	require.NoError(t, os.WriteFile(file, want, 0o600))
	ok(t, s.addr, nil, "topic", "create", "file")
	r := run(t, s.addr, nil, "produce", "file", "--file", file)
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stderr, "acknowledged 16 records")
	require.Contains(t, r.stderr, "failed 0; not sent 0")
	require.True(t, string(want)+"\n" == ok(t, s.addr, nil, "consume", "file"))

	for i, line := range strings.Split(strings.TrimSuffix(ok(t, s.addr, nil, "consume", "file", "--json"), "\n"), "\n") {
		var rec struct {
			Offset      int
			Key         *string
			Value       *string
			ValueBase64 []byte `json:"value_base64"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &rec))
		require.Equal(t, i, rec.Offset)
		require.Nil(t, rec.Key)
		if rec.Value != nil {
			rec.ValueBase64 = []byte(*rec.Value)
		}
		require.True(t, bytes.Equal(awkward()[i], rec.ValueBase64))
	}
}

// A line over the topic's limit stops the sending at its number; what comes
// before is stored, what comes after is counted.
func TestLineOverTheLimit(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	ok(t, s.addr, nil, "topic", "create", "small", "--max-batch-bytes", "4KiB")
	in := "one\ntwo\n" + strings.Repeat("x", 5000) + "\nfour\nfive"
	r := run(t, s.addr, []byte(in), "produce", "small")
	require.Equal(t, exitPartial, r.code)
	require.Contains(t, r.stderr, "line 3 is too large: with its key and headers it does not fit a batch of 4KiB, the most that topic small takes (max-batch-bytes)")
	require.Contains(t, r.stderr, "topic alter small --max-batch-bytes N")
	require.Contains(t, r.stderr, "--compression zstd")
	require.Contains(t, r.stderr, "acknowledged 2 records")
	require.Contains(t, r.stderr, "failed 0; not sent 3; first line not acknowledged 3")
	require.Contains(t, r.stderr, "--max-batch-bytes")
	require.Equal(t, "one\ntwo\n", ok(t, s.addr, nil, "consume", "small"))

	r = run(t, s.addr, []byte(in[8:]), "produce", "small", "--json")
	require.Equal(t, exitFailure, r.code)
	a := summary(t, r.stdout)
	require.Equal(t, int64(3), a.NotSent)
	require.Equal(t, int64(1), a.FirstMissing)
	require.Contains(t, a.Error, "line 1 is too large")

	// The key counts too, and nothing is set aside for what is not there.
	ok(t, s.addr, bytes.Repeat([]byte("y"), 3900), "produce", "small")
	r = run(t, s.addr, bytes.Repeat([]byte("y"), 3900), "produce", "small", "--key-field", "1")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "line 1 is too large")
}

// The limit is on batches as sent, so what compresses well may be longer.
func TestCompressedLineOverTheLimit(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	ok(t, s.addr, nil, "topic", "create", "small", "--max-batch-bytes", "4KiB")
	long := append(bytes.Repeat([]byte("x"), 3<<20), '\n')
	for _, codec := range []string{"s2", "zstd"} {
		ok(t, s.addr, long[len(long)-64<<10:], "produce", "small", "--compression", codec)
	}
	ok(t, s.addr, long, "produce", "small", "--compression", "zstd")

	random := make([]byte, 6000)
	for i := range random {
		random[i] = byte(' ' + mathrand.IntN(90))
	}
	r := run(t, s.addr, random, "produce", "small", "--compression", "zstd")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "line 1 was not acknowledged")
	require.Contains(t, r.stderr, "topic small takes batches of 4KiB (max-batch-bytes), compressed")
	require.Contains(t, r.stderr, "topic alter small --max-batch-bytes N")

	r = run(t, s.addr, bytes.Repeat([]byte("x"), 64<<20+1), "produce", "small", "--compression", "zstd")
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "line 1 is too large: a batch holds at most 64MiB before it is compressed")
}

func TestKeysAndFormats(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	ok(t, s.addr, nil, "topic", "create", "t", "--partitions", "8")
	r := run(t, s.addr, []byte("alice,10\nbob,20\nnothing\nalice,30\n"), "produce", "t", "--key-regex", `^(\w+),`, "--header", "source=test", "--header", "empty=")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stderr, "without a key 1")
	out := ok(t, s.addr, nil, "consume", "t", "--format", `%T|%k|%K|%v|%V|%h\n`)
	require.Contains(t, out, "t|alice|5|alice,10|8|source=test,empty=\n")
	require.Contains(t, out, "t||-1|nothing|7|source=test,empty=\n")
	require.Less(t, strings.Index(out, "alice,10"), strings.Index(out, "alice,30"), "a key keeps its order")

	ok(t, s.addr, nil, "topic", "create", "u", "--partitions", "4")
	ok(t, s.addr, []byte("a b\nc d\n"), "produce", "u", "--key-field", "2", "--partition", "3") // in one batch or two
	require.Equal(t, "3 0 b\n3 1 d\n", ok(t, s.addr, nil, "consume", "u", "--format", `%p %o %k\n`))
	ok(t, s.addr, []byte("x\ty\n"), "produce", "u", "--key-field", "2", "--delimiter", `\t`, "--partition", "3")
	require.Equal(t, "y\n", ok(t, s.addr, nil, "consume", "u", "--partition", "3", "--from", "2", "--format", `%k\n`))
	require.Equal(t, "a b\n", ok(t, s.addr, nil, "consume", "u", "--count", "1"))
	require.Equal(t, "", ok(t, s.addr, nil, "consume", "u", "--count", "0"))
	require.Equal(t, "", ok(t, s.addr, nil, "consume", "u", "--from", "end"))

	times := strings.Fields(ok(t, s.addr, nil, "consume", "u", "--format", `%a `))
	require.Len(t, times, 3)
	require.Equal(t, "x\ty\n", ok(t, s.addr, nil, "consume", "u", "--from", times[2]))
	require.Equal(t, "a b\nc d\nx\ty\n", ok(t, s.addr, nil, "consume", "u", "--from", times[0]))
	require.Equal(t, "", ok(t, s.addr, nil, "consume", "u", "--from", "2999-01-01T00:00:00Z"))

	r = run(t, s.addr, []byte("p\nq\n"), "produce", "u", "--partition", "1", "--print-acks", "--quiet")
	require.Equal(t, result{[]byte("1 1 0\n2 1 1\n"), "", exitOK}, r)
	for _, acks := range []string{"leader", "all"} {
		ok(t, s.addr, []byte("v\n"), "produce", "u", "--acks", acks)
	}
	r = run(t, s.addr, []byte("v\n"), "produce", "u", "--acks", "none")
	require.Equal(t, exitOK, r.code)
	require.Contains(t, r.stderr, "sent without acknowledgement 1 record")
}

// Lines of one key come back in their order, each once, whatever their
// partition.
func TestKeyOrderOver16Partitions(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	ok(t, s.addr, nil, "topic", "create", "t", "--partitions", "16")
	var in bytes.Buffer
	want := map[string][]string{}
	for i := range 20_000 {
		key := fmt.Sprintf("blk_%d", i*i%331)
		line := fmt.Sprintf("%d %s \r", i, key)
		want[key] = append(want[key], line)
		in.WriteString(line + "\n")
	}
	ok(t, s.addr, in.Bytes(), "produce", "t", "--key-regex", `blk_-?\d+`)
	got, partitions := map[string][]string{}, map[string]bool{}
	for line := range strings.Lines(ok(t, s.addr, nil, "consume", "t", "--format", `%p|%k|%v\n`)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "|", 3)
		partitions[f[0]] = true
		got[f[1]] = append(got[f[1]], f[2])
	}
	require.Equal(t, want, got)
	require.Len(t, partitions, 16)
}

func TestFollow(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	ok(t, s.addr, nil, "topic", "create", "t", "--partitions", "2")
	p := start(t, s.addr, "consume", "t", "--follow")
	counted := start(t, s.addr, "consume", "t", "--follow", "--count", "3", "--format", "%v,")
	for i := range 3 {
		ok(t, s.addr, []byte(fmt.Sprintf("%d\n", i)), "produce", "t")
		_, more := p.stdout.untilLines(i + 1) // printed as it comes, not when a buffer is full
		require.True(t, more)
	}
	r := counted.wait()
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Len(t, string(r.stdout), len("0,1,2,"))
	p.signal(os.Interrupt)
	r = p.wait()
	require.Equal(t, exitOK, r.code, "Ctrl-C is how to end --follow")
	require.Empty(t, r.stderr)

	r = run(t, s.addr, nil, "consume", "t", "--follow", "--timeout", "3s") // also the time that the first has to come
	require.Equal(t, exitOK, r.code)
	require.Equal(t, 3, bytes.Count(r.stdout, []byte("\n")))
}

// The reader of a pipe may leave at any time.
func TestBrokenPipe(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	ok(t, s.addr, nil, "topic", "create", "t")
	ok(t, s.addr, numbered("line", 50_000), "produce", "t")
	cmd := exec.Command(binary, "consume", "t", "--server", s.addr)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReaderSize(out, 16).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "line 0 0\r\n", line)
	require.NoError(t, out.Close())
	require.NoError(t, cmd.Wait())
	require.Empty(t, errs.String())
}

// Ctrl-C in the middle of typing: what was typed is acknowledged, and said so.
func TestInterruptedProduce(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	ok(t, s.addr, nil, "topic", "create", "t")
	p := start(t, s.addr, "produce", "t", "--print-acks")
	_, err := io.WriteString(p.stdin, "a\nb\nc\ntorn")
	require.NoError(t, err)
	_, acked := p.stdout.untilLines(3)
	require.True(t, acked)
	p.signal(syscall.SIGTERM)
	r := p.wait()
	require.Equal(t, exitInterrupted, r.code)
	require.Contains(t, r.stderr, "acknowledged 3 records")
	require.Contains(t, r.stderr, "failed 0; not sent at least 1")
	require.Equal(t, "a\nb\nc\n", ok(t, s.addr, nil, "consume", "t"))
}

// A broker that is stuck: the first Ctrl-C waits for acknowledgements, the
// second one does not.
func TestInterruptedTwice(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	ok(t, s.addr, nil, "topic", "create", "t")
	p := start(t, s.addr, "produce", "t", "--print-acks")
	_, err := io.WriteString(p.stdin, "a\n")
	require.NoError(t, err)
	_, acked := p.stdout.untilLines(1)
	require.True(t, acked)
	s.signal(syscall.SIGSTOP)
	_, err = io.WriteString(p.stdin, "b\n")
	require.NoError(t, err)
	p.signal(os.Interrupt)
	// Unless the signal was faster than the line: then nothing is waited for.
	if _, waits := p.stderr.until(func(s string) bool { return strings.Contains(s, "press Ctrl-C again") }); waits {
		p.signal(os.Interrupt)
	}
	require.Equal(t, exitInterrupted, p.wait().code)
	s.signal(syscall.SIGCONT)
	require.Equal(t, exitOK, s.stop().code)
}

// Lines are sent as they are typed, not when a buffer is full.
func TestLinesLeaveAtOnce(t *testing.T) {
	s := serve(t, t.TempDir(), "")
	ok(t, s.addr, nil, "topic", "create", "t")
	p := start(t, s.addr, "produce", "t", "--print-acks")
	for i := range 20 {
		fmt.Fprintf(p.stdin, "line %d\n", i)
		_, acked := p.stdout.untilLines(i + 1)
		require.True(t, acked)
	}
	p.stdin.Close()
	require.Equal(t, exitOK, p.wait().code)
}

func TestConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "broker.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"data-dir": "`+filepath.Join(dir, "data")+`", "listen": "127.0.0.1:0", "http": "", "reserve-bytes": "1MiB"}`), 0o600))
	cmd := start(t, "", "serve", "--config", file)
	out, up := cmd.stdout.until(func(s string) bool { return strings.Contains(s, "Ctrl-C") })
	require.True(t, up, "%s", cmd.stderr.bytes())
	require.Contains(t, out, filepath.Join(dir, "data"))
	cmd.signal(os.Interrupt)
	require.Equal(t, exitOK, cmd.wait().code)

	require.NoError(t, os.WriteFile(file, []byte(`{"lisen": "127.0.0.1:0"}`), 0o600))
	r := run(t, "", nil, "serve", "--config", file)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, `no setting is called "lisen"`)
	require.Contains(t, r.stderr, file)
}

func TestVersion(t *testing.T) {
	require.Regexp(t, `^sequitur broker \S+.*, go1\S+ \w+/\w+\n$`, ok(t, "", nil, "version"))
	var v versionJSON
	require.NoError(t, json.Unmarshal([]byte(ok(t, "", nil, "version", "--json")), &v))
	require.NotEmpty(t, v.Version)
}
