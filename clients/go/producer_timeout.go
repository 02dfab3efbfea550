package sequitur

import (
	"fmt"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// task is a function that runs now and then on a timer, in the producer's care.
// Guarded by Producer.mu, which the function is called without.
type task struct {
	run   func()
	timer *time.Timer
	armed bool
}

// arm has the task run once after d unless it is armed. Nothing happens once the
// producer has failed or was closed.
func (k *task) arm(p *Producer, d time.Duration) {
	if k.armed || p.failure != nil {
		return
	}
	k.armed = true
	p.wg.Add(1)
	if k.timer != nil {
		k.timer.Reset(d)
		return
	}
	k.timer = time.AfterFunc(d, func() {
		defer p.wg.Done()
		p.mu.Lock()
		k.armed = false
		p.mu.Unlock()
		k.run()
	})
}

// stop ends the task if it is not running already.
func (k *task) stop(p *Producer) {
	if k.armed && k.timer.Stop() {
		k.armed = false
		p.wg.Done()
	}
}

// sweepEvery is how precisely delivery timeouts are kept.
func (p *Producer) sweepEvery() time.Duration {
	return max(min(p.opts.deliveryTimeout/8, 250*time.Millisecond), time.Millisecond)
}

// expireAll fails the batches whose delivery timeout is over.
func (p *Producer) expireAll() {
	p.mu.Lock()
	defer p.unlock()
	if p.failure != nil {
		return
	}
	before := p.client.now() - int64(p.opts.deliveryTimeout)
	for _, topic := range p.topics {
		for _, t := range topic.parts {
			if t != nil && (t.open() != nil || len(t.queue) > 0) {
				t.expire(before)
			}
		}
	}
	// What was not needed since the last time will hardly be needed soon.
	p.pool.drop(p.pool.bytes / 2)
	if p.outstanding > 0 || p.pool.bytes > 0 {
		p.sweep.arm(p, p.sweepEvery())
	}
}

// expire fails the batches opened before a time of the client's clock.
func (t *partition) expire(before int64) {
	expired := false
	for _, b := range t.queue {
		if b.opened > before {
			break
		}
		if !b.done {
			t.fail(b, t.timedOut())
			expired = true
		}
	}
	if b := t.open(); b != nil && b.opened <= before {
		t.seal()
		t.fail(t.queue[len(t.queue)-1], t.timedOut())
		expired = true
	}
	if expired {
		t.settle()
	}
}

func (t *partition) timedOut() *Error {
	return &Error{Code: Code(wire.CodeTimeout.String()), Retriable: true, Err: t.cause,
		Message: fmt.Sprintf("not acknowledged within %v; see that the broker runs and keeps up", t.p.opts.deliveryTimeout)}
}
