package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
	// keptLines of a server's output are shown when it fails to start.
	keptLines = 20
)

// Process is a server that this run started and will end.
type Process struct {
	Addr string // where it listens
	PID  int

	cmd    *exec.Cmd
	stdin  io.Closer
	exited chan struct{}
	err    error // of Wait; set before exited is closed

	mu   sync.Mutex
	tail []string
}

// Ready looks at a line of a server's output; it returns the address once the server can be used.
type Ready func(line string) (addr string, ok bool)

// StartProcess starts a server and waits until ready has seen its address in standard output or error. The server's
// standard input stays open until Stop: a child that watches it ends with this process, however that ends.
func StartProcess(ctx context.Context, ready Ready, command string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(command, args...), exited: make(chan struct{})}
	dieWithParent(p.cmd)
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", command, err)
	}
	p.stdin = stdin
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", command, err)
	}
	p.cmd.Stdout, p.cmd.Stderr = in, in
	err = p.cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("start %s: %w", command, err)
	}
	p.PID = p.cmd.Process.Pid
	found := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer out.Close()
		p.scan(out, ready, found)
	}()
	go func() {
		<-read // all output first, so that a failure can be told with its words
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case p.Addr = <-found:
		return p, nil
	case <-p.exited:
		return nil, fmt.Errorf("%s ended at start: %w\n%s", command, p.err, p.output())
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("%s did not become ready: %w\n%s", command, ctx.Err(), p.output()), p.Kill())
	}
}

func (p *Process) scan(out io.Reader, ready Ready, found chan<- string) {
	lines := bufio.NewScanner(out)
	told := false
	for lines.Scan() {
		line := lines.Text()
		p.mu.Lock()
		if p.tail = append(p.tail, line); len(p.tail) > keptLines {
			p.tail = p.tail[1:]
		}
		p.mu.Unlock()
		if told {
			continue
		}
		if addr, ok := ready(line); ok {
			told = true
			found <- addr
		}
	}
	// A line too long to scan must not block the server.
	_, _ = io.Copy(io.Discard, out)
}

func (p *Process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

// Stop asks the server to end and waits; after a while it kills it.
func (p *Process) Stop() error {
	p.stdin.Close()
	// A server that does not watch its standard input needs the signal; one that has ended already does not mind.
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("server %d did not stop in %s", p.PID, stopTimeout), p.Kill())
	}
}

// Kill ends the server at once (SIGKILL) and waits for its end.
func (p *Process) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill server %d: %w", p.PID, err)
	}
	p.stdin.Close()
	<-p.exited
	return nil
}
