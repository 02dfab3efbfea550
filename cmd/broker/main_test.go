package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binary is the program under test, built once. The tests below run it as a
// user does: as a process.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sequitur-cli-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "broker")
		if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// patience bounds the life of a process; on a machine that works all end long
// before.
const patience = 5 * time.Minute

// result is what a process left behind.
type result struct {
	stdout []byte
	stderr string
	code   int
}

// run executes the program with --server set by the environment and waits.
func run(t *testing.T, server string, stdin []byte, args ...string) result {
	t.Helper()
	p := start(t, server, args...)
	go func() {
		_, _ = p.stdin.Write(stdin) // a program that stops early closes its end
		p.stdin.Close()
	}()
	return p.wait()
}

// ok is run for commands that must succeed; it returns standard output.
func ok(t *testing.T, server string, stdin []byte, args ...string) string {
	t.Helper()
	r := run(t, server, stdin, args...)
	require.Equal(t, exitOK, r.code, "broker %s\n%s", strings.Join(args, " "), r.stderr)
	return string(r.stdout)
}

// process is a running program.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *tee
	stderr *tee
	once   sync.Once
	code   int
}

// start runs the program; the test ends it if it does not end by itself.
func start(t *testing.T, server string, args ...string) *process {
	t.Helper()
	p := prepare(t, server, args...)
	p.launch()
	return p
}

// prepare is start without starting.
func prepare(t *testing.T, server string, args ...string) *process {
	p := &process{t: t, cmd: exec.Command(binary, args...), stdout: newTee(), stderr: newTee()}
	p.cmd.Env = append(os.Environ(), "SEQUITUR_SERVER="+server, "TZ=UTC")
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	return p
}

func (p *process) launch() {
	p.t.Helper()
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Start())
	p.t.Cleanup(func() { p.kill() })
	go p.finish() // so that whoever waits for its output learns of its end
}

// wait waits for the end. A Go stack trace on standard error fails the test.
func (p *process) wait() result {
	p.t.Helper()
	p.finish()
	r := result{stdout: p.stdout.bytes(), stderr: string(p.stderr.bytes()), code: p.code}
	require.NotContains(p.t, r.stderr, "goroutine ", "a stack trace is no error message")
	return r
}

func (p *process) finish() {
	p.once.Do(func() {
		timer := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
		defer timer.Stop()
		err := p.cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			p.t.Errorf("wait for %v: %v", p.cmd.Args, err)
		}
		p.code = p.cmd.ProcessState.ExitCode()
		p.stdout.close()
		p.stderr.close()
	})
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.finish()
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// tee keeps everything that is written and lets a test wait for lines.
type tee struct {
	mu     sync.Mutex
	more   *sync.Cond
	buf    bytes.Buffer
	closed bool
}

func newTee() *tee {
	t := &tee{}
	t.more = sync.NewCond(&t.mu)
	return t
}

func (t *tee) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	t.more.Broadcast()
	return len(p), nil
}

func (t *tee) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.more.Broadcast()
}

func (t *tee) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf.Bytes())
}

// until waits until the output satisfies done, or the process has ended, and
// returns the output and whether it did.
func (t *tee) until(done func(string) bool) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		if s := t.buf.String(); done(s) {
			return s, true
		} else if t.closed {
			return s, false
		}
		t.more.Wait()
	}
}

// untilLines waits for n whole lines.
func (t *tee) untilLines(n int) (string, bool) {
	return t.until(func(s string) bool { return strings.Count(s, "\n") >= n })
}

// server is a running broker.
type server struct {
	*process
	addr   string
	banner string
}

// serve starts a broker on a free port, or on addr.
func serve(t *testing.T, dir, addr string, more ...string) *server {
	t.Helper()
	s, err := tryServe(t, dir, addr, more...)
	require.NoError(t, err)
	return s
}

func tryServe(t *testing.T, dir, addr string, more ...string) (*server, error) {
	t.Helper()
	p := prepareServe(t, dir, addr, more...)
	p.launch()
	return p.awaitServe()
}

// prepareServe is a broker that is not started yet.
func prepareServe(t *testing.T, dir, addr string, more ...string) *process {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	// Small journal files: the tests start dozens of brokers.
	return prepare(t, "", append([]string{"serve", "--data", dir, "--listen", addr, "--http", "",
		"--journal-file-bytes", "4MiB", "--journal-bytes", "64MiB", "--reserve-bytes", "1MiB"}, more...)...)
}

// awaitServe waits until the broker serves.
func (p *process) awaitServe() (*server, error) {
	banner, up := p.stdout.until(func(s string) bool { return strings.Contains(s, "Ctrl-C stops it.\n") })
	if !up {
		return nil, fmt.Errorf("the broker did not start: %s", p.stderr.bytes())
	}
	s := &server{process: p, banner: banner}
	for line := range strings.Lines(banner) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "clients" {
			s.addr = f[1]
		}
	}
	if s.addr == "" {
		return nil, fmt.Errorf("the banner names no address: %s", banner)
	}
	return s, nil
}

// stop ends a broker gracefully.
func (s *server) stop() result {
	s.t.Helper()
	s.signal(os.Interrupt)
	return s.wait()
}

// clean runs broker check over a directory and requires it to find nothing.
func clean(t *testing.T, dir string) {
	t.Helper()
	r := run(t, "", nil, "check", dir)
	require.Equal(t, exitOK, r.code, "%s%s", r.stdout, r.stderr)
}

// summary is the account that produce --json prints as its last line.
func summary(t *testing.T, stdout []byte) (a account) {
	t.Helper()
	all := bytes.Split(bytes.TrimSuffix(stdout, []byte("\n")), []byte("\n"))
	require.NoError(t, json.Unmarshal(all[len(all)-1], &a), "%s", stdout)
	return a
}

// numbered generates lines "<prefix> <n> <filler>" that differ.
func numbered(prefix string, n int) []byte {
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	for i := range n {
		fmt.Fprintf(w, "%s %d %x\r\n", prefix, i, i*2654435761)
	}
	w.Flush()
	return b.Bytes()
}
