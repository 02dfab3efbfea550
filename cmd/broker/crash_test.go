package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// load is a produce that is fed line by line while things happen to its
// broker.
type load struct {
	*process
	lines []string
}

func startLoad(t *testing.T, addr, topic string, more ...string) *load {
	t.Helper()
	args := append([]string{"produce", topic, "--print-acks", "--key-field", "1"}, more...)
	return &load{process: start(t, addr, args...)}
}

// feed writes n more lines.
func (l *load) feed(n int) {
	l.t.Helper()
	require.NoError(l.t, l.offer(n))
}

// offer is feed for a program that may end meanwhile.
func (l *load) offer(n int) error {
	var b strings.Builder
	for range n {
		line := fmt.Sprintf("key%d line %d %s\r", len(l.lines)%7, len(l.lines), strings.Repeat("x", len(l.lines)%50))
		l.lines = append(l.lines, line)
		b.WriteString(line + "\n")
	}
	_, err := io.WriteString(l.stdin, b.String())
	return err
}

// verify compares what is stored with what was acknowledged.
func (l *load) verify(addr, topic string, r result) {
	l.t.Helper()
	records := readStored(l.t, ok(l.t, addr, nil, "consume", topic, "--format", `%p %o %v\n`))
	require.NoError(l.t, checkHistory(l.lines, readAcks(l.t, string(r.stdout)), records))
}

// kill -9 at any moment of a produce: it goes on with the restarted broker, and
// every line is there exactly once.
func TestKillDuringProduce(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, "")
	ok(t, s.addr, nil, "topic", "create", "t", "--partitions", "3")
	l := startLoad(t, s.addr, "t")
	const rounds, batch = 12, 2000
	for round := range rounds {
		acked := strings.Count(string(l.stdout.bytes()), "\n")
		l.feed(batch)
		// Another moment in every round: from right after the feeding to after
		// the acknowledgement of most of it.
		_, alive := l.stdout.untilLines(acked + round*batch/rounds)
		require.True(t, alive, "%s", l.stderr.bytes())
		s.kill()
		s = serve(t, dir, s.addr)
	}
	require.NoError(t, l.stdin.Close())
	r := l.wait()
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Len(t, readAcks(t, string(r.stdout)), rounds*batch)
	l.verify(s.addr, "t", r)
	require.Equal(t, exitOK, s.stop().code)
	clean(t, dir)
}

// A broker that stays away: produce gives up, says what was acknowledged, and
// that is there after the restart.
func TestKillAndGiveUp(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, "")
	for round := range 4 {
		topic := fmt.Sprintf("t%d", round)
		ok(t, s.addr, nil, "topic", "create", topic)
		l := startLoad(t, s.addr, topic, "--timeout", "300ms")
		l.feed(1000)
		// On a machine that is slow enough it may give up before the kill; what
		// it says must be true then, too.
		l.stdout.untilLines(1 + round*300)
		s.kill()
		_ = l.offer(500)
		// It ends by itself, although more input may come.
		r := l.wait()
		clean(t, dir)
		acked := len(readAcks(t, string(r.stdout)))
		if acked > 0 {
			require.Equal(t, exitPartial, r.code, r.stderr)
		}
		require.NotEqual(t, exitOK, r.code, r.stderr)
		require.Contains(t, r.stderr, "not acknowledged")
		require.Contains(t, r.stderr, "acknowledged "+count(int64(acked), "record"))
		s = serve(t, dir, s.addr)
		l.verify(s.addr, topic, r)
	}
	require.Equal(t, exitOK, s.stop().code)
	clean(t, dir)
}

func (l *load) result(t *testing.T) result {
	t.Helper()
	l.stdin.Close()
	return l.wait()
}

// A graceful stop under load lets what is in flight finish; produce goes on
// with the next broker.
func TestGracefulStopUnderLoad(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, "")
	ok(t, s.addr, nil, "topic", "create", "t", "--partitions", "4")
	l := startLoad(t, s.addr, "t")
	for round := range 3 {
		acked := strings.Count(string(l.stdout.bytes()), "\n")
		l.feed(4000)
		_, alive := l.stdout.untilLines(acked + 1 + round*1000)
		require.True(t, alive, "%s", l.stderr.bytes())
		s.signal(syscall.SIGTERM)
		r := s.wait()
		require.Equal(t, exitOK, r.code, r.stderr)
		require.Contains(t, r.stderr, "stopped, everything is on disk")
		clean(t, dir)
		s = serve(t, dir, s.addr)
	}
	r := l.result(t)
	require.Equal(t, exitOK, r.code, r.stderr)
	l.verify(s.addr, "t", r)
}

// topicFiles is where a topic's files are, to be asked while its broker runs.
func topicFiles(t *testing.T, addr, dir, topic string) string {
	t.Helper()
	var d topicJSON
	require.NoError(t, json.Unmarshal([]byte(ok(t, addr, nil, "topic", "describe", topic, "--json")), &d))
	return filepath.Join(dir, "partitions", strings.ReplaceAll(d.UUID, "-", ""))
}

// firstSegment is the first segment of partition 0.
func firstSegment(t *testing.T, files string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(files, "0", "*.log"))
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found[0]
}

// flipBit damages a file as an ageing disk does.
func flipBit(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	b[0] ^= 0x10
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
}

// A flipped bit is found, named by file and offset, and not served.
func TestFlippedBit(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, "")
	ok(t, s.addr, nil, "topic", "create", "t")
	var want string
	for i := range 40 { // a batch each, so that there is something around the hole
		lines := numbered(fmt.Sprintf("batch %d", i), 50)
		ok(t, s.addr, lines, "produce", "t")
		want += string(lines)
	}
	all := strings.SplitAfter(want, "\n")
	files := topicFiles(t, s.addr, dir, "t")
	require.Equal(t, exitOK, s.stop().code)
	clean(t, dir)
	file := firstSegment(t, files)
	info, err := os.Stat(file)
	require.NoError(t, err)
	flipBit(t, file, info.Size()/2)

	r := run(t, "", nil, "check", dir)
	require.Equal(t, exitCorrupt, r.code, "%s", r.stdout)
	require.Contains(t, string(r.stdout), filepath.Base(file))
	require.Regexp(t, `at byte \d+, partition t/0, offsets \[\d+, \d+\)`, string(r.stdout))
	r = run(t, "", nil, "check", dir, "--json")
	require.Equal(t, exitCorrupt, r.code)

	s = serve(t, dir, "")
	r = run(t, s.addr, nil, "consume", "t")
	require.Equal(t, exitCorrupt, r.code, r.stderr)
	require.Contains(t, r.stderr, "are damaged on disk and are not served")
	require.Regexp(t, `the damage is in .*`+filepath.Base(file)+` at byte \d+`, r.stderr)
	require.Contains(t, r.stderr, "--skip-corrupt")
	require.True(t, len(r.stdout) > 0 && strings.HasPrefix(want, string(r.stdout)), "what comes before the damage is served")

	r = run(t, s.addr, nil, "consume", "t", "--skip-corrupt")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stderr, "skipped damaged records of topic t, partition 0")
	served := strings.SplitAfter(string(r.stdout), "\n")
	require.Less(t, len(served), len(all))
	require.GreaterOrEqual(t, len(served), len(all)-100, "only the damaged batch is left out")
	sent := map[string]bool{}
	for _, line := range all {
		sent[line] = true
	}
	for _, line := range served {
		require.True(t, sent[line], "served %q, which was never sent", line)
	}
	inDir, err := filepath.Rel(dir, file)
	require.NoError(t, err)
	require.Regexp(t, `(?m)^damaged: partition 0, offsets \d+ to \d+, in `+inDir+` at byte \d+$`, ok(t, s.addr, nil, "topic", "describe", "t"))
	ok(t, s.addr, []byte("after\n"), "produce", "t")
	require.True(t, strings.HasSuffix(ok(t, s.addr, nil, "consume", "t", "--skip-corrupt"), "after\n"))
}

// check and serve agree on what a directory is, whatever is in it.
func TestCheckAndServeAgree(t *testing.T) {
	made := t.TempDir()
	require.Equal(t, exitOK, serve(t, made, "").stop().code)
	for _, c := range []struct {
		name   string
		make   func(t *testing.T, dir string)
		code   int
		check  []string
		starts bool
		serve  string
	}{
		{"empty", func(*testing.T, string) {}, exitNotFound, []string{"no data directory of a broker: it is empty", "would begin an empty one there"}, true, ""},
		{"foreign files", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "photo.jpg"), []byte("x"), 0o600))
		}, exitNotFound, []string{"no data directory of a broker: it holds other files, such as photo.jpg", "would begin an empty one there"}, true, ""},
		{"whole", func(t *testing.T, dir string) { require.NoError(t, os.CopyFS(dir, os.DirFS(made))) }, exitOK, nil, true, ""},
		{"copied without the lock", func(t *testing.T, dir string) {
			require.NoError(t, os.CopyFS(dir, os.DirFS(made)))
			require.NoError(t, os.Remove(filepath.Join(dir, "lock")))
		}, exitOK, nil, true, ""},
		{"broken identity", func(t *testing.T, dir string) {
			require.NoError(t, os.CopyFS(dir, os.DirFS(made)))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "identity"), []byte("rubbish"), 0o600))
		}, exitCorrupt, []string{"not an identity file", "the broker does not start on it"}, false, "not an identity file"},
		{"no identity", func(t *testing.T, dir string) {
			require.NoError(t, os.CopyFS(dir, os.DirFS(made)))
			require.NoError(t, os.Remove(filepath.Join(dir, "identity")))
		}, exitCorrupt, []string{"holds data but no identity file", "the broker does not start on it"}, false, "holds data but no identity file"},
		{"partitions without metadata", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(filepath.Join(dir, "partitions"), 0o700))
		}, exitCorrupt, []string{"holds data but no identity file", "the broker does not start on it"}, false, "holds data but no identity file"},
		{"a start that did not get far", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(filepath.Join(dir, "journal"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600))
		}, exitOK, nil, true, ""},
		{"broken checkpoint", func(t *testing.T, dir string) {
			require.NoError(t, os.CopyFS(dir, os.DirFS(made)))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "checkpoint"), []byte("rubbish"), 0o600))
		}, exitCorrupt, []string{"checkpoint", "the broker does not start on it"}, false, "checkpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.make(t, dir)
			for range 2 { // a start that is refused changes nothing of that
				r := run(t, "", nil, "check", dir)
				require.Equal(t, c.code, r.code, "%s%s", r.stdout, r.stderr)
				for _, says := range c.check {
					require.Contains(t, string(r.stdout)+r.stderr, says)
				}
				if c.starts {
					break
				}
				p := prepareServe(t, dir, "")
				p.launch()
				r = p.wait()
				require.Equal(t, exitCorrupt, r.code, "%s", r.stderr)
				require.Contains(t, r.stderr, c.serve)
			}
			if c.starts {
				require.Equal(t, exitOK, serve(t, dir, "").stop().code)
				clean(t, dir)
			}
		})
	}
}

// Damaged metadata keep a broker from starting: check says so, and calls the
// partitions by their UUIDs.
func TestCheckOfDamagedMetadata(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, "")
	ok(t, s.addr, nil, "topic", "create", "t")
	ok(t, s.addr, []byte("line\n"), "produce", "t")
	files := topicFiles(t, s.addr, dir, "t")
	require.Equal(t, exitOK, s.stop().code)
	flipBit(t, firstSegment(t, files), 90)
	metadata, err := filepath.Glob(filepath.Join(dir, "partitions", fmt.Sprintf("%x", "__metadata")+"*", "0", "*.log"))
	require.NoError(t, err)
	require.Len(t, metadata, 1)
	flipBit(t, metadata[0], 90)

	r := run(t, "", nil, "check", dir)
	require.Equal(t, exitCorrupt, r.code)
	require.Contains(t, string(r.stdout), "the broker cannot start: read the metadata")
	require.Contains(t, string(r.stdout), "partition "+filepath.Base(files)+"/0")
	require.Contains(t, r.stderr, "the broker does not start on it")
	p := prepareServe(t, dir, "")
	p.launch()
	r = p.wait()
	require.Equal(t, exitCorrupt, r.code)
	require.Contains(t, r.stderr, "read the metadata")
}

// What is no directory that can be read is said to be so.
func TestCheckOfNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, errs, code := inProcess("check", file)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, file+" is no directory\n")
	require.Contains(t, errs, "log dump "+file)

	_, errs, code = inProcess("check", file+"-that-is-missing")
	require.Equal(t, exitNotFound, code)
	require.Contains(t, errs, "there is no directory "+file+"-that-is-missing\n")

	c := &cli{args: []string{"broker"}}
	err := c.explainCheck("d", fmt.Errorf("check d: %w", &os.PathError{Op: "open", Path: "d", Err: syscall.EACCES}))
	require.ErrorContains(t, err, "check d: open d: permission denied")
	require.Contains(t, c.explain(err).todo, "as the user that the broker runs as")
	require.Equal(t, exitFailure, c.explain(err).code)
}

// A flipped byte of a segment that the journal has too is named, although the
// next start repairs it.
func TestCheckNamesWhatIsRepaired(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, "", "--checkpoint-interval", "1h")
	ok(t, s.addr, nil, "topic", "create", "t")
	lines := numbered("line", 5000)
	ok(t, s.addr, lines, "produce", "t")
	files := topicFiles(t, s.addr, dir, "t")
	s.kill()
	s = serve(t, dir, "", "--checkpoint-interval", "1h") // writes the segment, at the latest
	s.kill()
	clean(t, dir)
	file := firstSegment(t, files)
	stored, err := os.ReadFile(file)
	require.NoError(t, err)
	at := bytes.Index(stored, []byte("line 17 "))
	require.Positive(t, at)
	flipBit(t, file, int64(at))
	r := run(t, "", nil, "check", dir)
	require.Equal(t, exitOK, r.code, "%s", r.stdout)
	inDir, err := filepath.Rel(dir, file)
	require.NoError(t, err)
	require.Contains(t, string(r.stdout), fmt.Sprintf("note: %s at byte %d, partition t/0: bytes are", inDir, at))
	require.Contains(t, string(r.stdout), "bytes are others than the journal has, 1 from here on")
	s = serve(t, dir, "")
	require.Equal(t, string(lines), ok(t, s.addr, nil, "consume", "t"))
	require.Equal(t, exitOK, s.stop().code)
	r = run(t, "", nil, "check", dir)
	require.NotContains(t, string(r.stdout), "note: ")
}

func TestLogDump(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, "")
	ok(t, s.addr, nil, "topic", "create", "t")
	ok(t, s.addr, []byte("one\ntwo\n"), "produce", "t")
	files := topicFiles(t, s.addr, dir, "t")
	require.Equal(t, exitOK, s.stop().code)
	file := firstSegment(t, files)
	out := ok(t, "", nil, "log", "dump", file)
	require.Contains(t, out, "offsets [0, 2)")
	require.NotContains(t, out, `"one"`)
	out = ok(t, "", nil, "log", "dump", "--records", file)
	require.Contains(t, out, `"one"`)
	require.Contains(t, out, `"two"`)
	require.NotEmpty(t, ok(t, "", nil, "log", "dump", filepath.Join(dir, "identity")))

	r := run(t, "", nil, "log", "dump", os.DevNull)
	require.Equal(t, exitFailure, r.code)
	require.Contains(t, r.stderr, "want *.log")
	flipBit(t, file, 100)
	r = run(t, "", nil, "log", "dump", file)
	require.Equal(t, exitCorrupt, r.code, r.stderr)
	require.Contains(t, string(r.stdout), "DAMAGE at byte 0")
}

// A full disk refuses, keeps serving reads, and recovers. The reserve stands
// in for the disk here: it asks for more than any disk has free.
func TestFullDiskIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, "")
	ok(t, s.addr, nil, "topic", "create", "t")
	ok(t, s.addr, []byte("before\n"), "produce", "t")
	require.Equal(t, exitOK, s.stop().code)

	s = serve(t, dir, s.addr, "--reserve-bytes", "1000000GiB")
	r := run(t, s.addr, []byte("refused\n"), "produce", "t", "--timeout", "5s")
	require.Equal(t, exitStorage, r.code, r.stderr)
	require.Contains(t, r.stderr, "full")
	require.Contains(t, r.stderr, "acknowledged 0 records")
	require.Equal(t, "before\n", ok(t, s.addr, nil, "consume", "t"))
	require.Equal(t, exitOK, s.stop().code)

	s = serve(t, dir, s.addr)
	ok(t, s.addr, []byte("after\n"), "produce", "t")
	require.Equal(t, "before\nafter\n", ok(t, s.addr, nil, "consume", "t"))
	require.Equal(t, exitOK, s.stop().code)
	clean(t, dir)
}
