package main

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// output is standard output. It remembers the first write that failed, so that
// no command succeeds whose answer did not reach its reader.
type output struct {
	w io.Writer

	mu  sync.Mutex
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		o.mu.Lock()
		if o.err == nil {
			o.err = err
		}
		o.mu.Unlock()
	}
	return n, err
}

// failure is why the output is not complete; nil also if the reader of a pipe
// had seen enough.
func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil || errors.Is(o.err, syscall.EPIPE) {
		return nil
	}
	return fail(exitFailure, "the command was carried out, its output is not complete", "%v", o.err)
}
