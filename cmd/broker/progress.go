package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	progressAfter    = 2 * time.Second // quick commands show none
	progressTerminal = 500 * time.Millisecond
	progressLog      = 5 * time.Second // where standard error is no terminal
)

// progress shows on standard error how far a produce is, once it takes long.
// All messages of the command go through it, so that they do not tear its line.
type progress struct {
	out      io.Writer
	terminal bool
	run      *produceRun
	size     int64 // of the input, -1 unknown

	mu    sync.Mutex
	shown bool // the terminal's current line is ours
	done  chan struct{}
	wait  sync.WaitGroup
	once  sync.Once
}

func newProgress(c *cli, r *produceRun, size int64) *progress {
	p := &progress{out: c.stderr, run: r, size: size, done: make(chan struct{})}
	if f, ok := c.stderr.(*os.File); ok {
		p.terminal = isTerminal(f)
	}
	return p
}

// start begins to show; the clock of the account starts here too.
func (p *progress) start() {
	p.run.mu.Lock()
	p.run.began = time.Now()
	p.run.mu.Unlock()
	if p.run.quiet {
		return
	}
	p.wait.Go(func() {
		every := progressLog
		if p.terminal {
			every = progressTerminal
		}
		next := time.NewTimer(progressAfter)
		defer next.Stop()
		for {
			select {
			case <-p.done:
				return
			case <-next.C:
				p.show()
				next.Reset(every)
			}
		}
	})
}

func (p *progress) show() {
	text := p.text(time.Now())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprintf(p.out, "\r\x1b[K%s", text)
		p.shown = true
	} else {
		fmt.Fprintf(p.out, "broker: %s\n", text)
	}
}

func (p *progress) text(now time.Time) string {
	r := p.run
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "acknowledged %s of %s sent", thousands(r.acked), thousands(r.sent))
	if p.size > 0 {
		read := r.ackedBytes + r.acked // each record had a LF
		fmt.Fprintf(&b, ", %d%%", min(100*read/p.size, 100))
	}
	took := now.Sub(r.began).Seconds()
	fmt.Fprintf(&b, ", %s, %s/s", roundSize(uint64(r.ackedBytes)), thousands(int64(float64(r.acked)/max(took, 0.001))))
	return b.String()
}

// say prints a message of its own line.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.out, "broker: "+format+"\n", args...)
}

func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}

// stop ends the showing and clears the line.
func (p *progress) stop() {
	p.once.Do(func() { close(p.done) })
	p.wait.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}
