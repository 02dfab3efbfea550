package bench

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	progressEvery     = time.Second     // on a terminal, over the line before
	progressEveryLine = 5 * time.Second // elsewhere, a line each
)

// Progress prints what is being done while it takes long. A nil Progress prints nothing.
type Progress struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	label    string
	open     bool // a line that will be overwritten stands there
}

// NewProgress writes to w, which is usually standard error. On a terminal each line takes the place of the one before.
func NewProgress(w io.Writer, terminal bool) *Progress { return &Progress{w: w, terminal: terminal} }

// Step announces what comes next.
func (p *Progress) Step(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.label = fmt.Sprintf(format, args...)
	p.line(p.label)
}

// Done ends the current line; call it before anything else is printed.
func (p *Progress) Done() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.open = false
	}
}

// Watch prints the counter's growth now and then until the returned function is called, which waits for the watcher.
func (p *Progress) Watch(counter func() uint64) (stop func()) {
	if p == nil {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		p.watch(counter, end)
	}()
	return func() {
		close(end)
		<-ended
	}
}

func (p *Progress) watch(counter func() uint64, end <-chan struct{}) {
	every := progressEveryLine
	if p.terminal {
		every = progressEvery
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var before uint64
	at := time.Now()
	for {
		select {
		case <-end:
			return
		case now := <-ticker.C:
			count := counter()
			perSecond := float64(count-before) / now.Sub(at).Seconds()
			p.mu.Lock()
			p.line(fmt.Sprintf("%s: %s records, %s/s", p.label, whole(count), grouped(perSecond)))
			p.mu.Unlock()
			before, at = count, now
		}
	}
}

// line overwrites the line before on a terminal; the lock is held by the caller.
func (p *Progress) line(text string) {
	if !p.terminal {
		fmt.Fprintln(p.w, text)
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	p.open = true
}
