package sequitur

import (
	"context"
	"sync"
	"sync/atomic"
)

// waiter is a Send that waits. Waiters are pooled: one that its caller abandoned goes
// back to the pool when the outcome comes.
type waiter struct {
	state atomic.Uint32
	ready chan struct{} // holds one token when the outcome is set
	ack   Ack
	err   error
}

const (
	waiterWaits uint32 = iota
	waiterKnows
	waiterAbandoned
)

type waiterPool struct{ pool sync.Pool }

func (p *waiterPool) get() *waiter {
	if w, ok := p.pool.Get().(*waiter); ok {
		return w
	}
	return &waiter{ready: make(chan struct{}, 1)}
}

func (p *waiterPool) put(w *waiter) {
	w.state.Store(waiterWaits)
	w.ack, w.err = Ack{}, nil
	p.pool.Put(w)
}

// complete hands the outcome over, to be called once.
func (p *waiterPool) complete(w *waiter, ack Ack, err error) {
	w.ack, w.err = ack, err
	if w.state.CompareAndSwap(waiterWaits, waiterKnows) {
		w.ready <- struct{}{}
		return
	}
	p.put(w)
}

// wait returns the outcome; false if the context ended before. The waiter must not be
// used afterwards.
func (p *waiterPool) wait(ctx context.Context, w *waiter) (ack Ack, err error, known bool) {
	if done := ctx.Done(); done == nil {
		<-w.ready
	} else {
		select {
		case <-w.ready:
		case <-done:
			if w.state.CompareAndSwap(waiterWaits, waiterAbandoned) {
				return Ack{}, nil, false
			}
			<-w.ready
		}
	}
	ack, err = w.ack, w.err
	p.put(w)
	return ack, err, true
}
