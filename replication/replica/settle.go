package replica

import "fmt"

// completion is the replica as the log sees it. The log calls it once per journaled
// append, in order; which one it is follows from the durable offset.
type completion Replica

// Complete implements log.Completion. It does not wait for the mutex.
func (c *completion) Complete(err error) {
	r := (*Replica)(c)
	if err != nil {
		r.noteFailure(err)
	}
	r.dirty.Store(true)
	if r.mu.TryLock() {
		r.unlock()
	}
}

// noteFailure keeps the first error: where it is stored it moves to the heap, which
// must not happen to the nil of every append.
func (r *Replica) noteFailure(err error) {
	r.failure.CompareAndSwap(nil, &err)
	r.failed.Add(1)
}

// call is one outcome to be told once the mutex is released.
type call struct {
	w      Waiter
	watch  Watcher
	token  int
	result Result
	err    error
}

// unlock settles what can be settled, releases the mutex and calls waiters and
// watchers. It starts over if a completion was left in the meantime, unless somebody
// else holds the mutex and will.
func (r *Replica) unlock() {
	var calls [8]call
	for {
		n := r.settle(calls[:])
		violated := r.violated
		r.violated = nil
		r.mu.Unlock()
		if violated != nil {
			r.options.OnFatal(violated)
		}
		for i := range calls[:n] {
			calls[i].run()
		}
		if !r.dirty.Load() || !r.mu.TryLock() {
			return
		}
	}
}

func (c *call) run() {
	switch {
	case c.watch != nil:
		c.watch.Passed(c.token)
	case c.w != nil:
		c.w.Appended(c.token, c.result, c.err)
	}
}

// settle brings the machine up to what is durable and fills calls with who is done, at
// most as many as fit: the rest is left for the next round. The caller holds mu.
func (r *Replica) settle(calls []call) (n int) {
	if r.dirty.Swap(false) {
		r.raise()
	}
	for n < len(calls) {
		w, err, ok := r.nextDone()
		if !ok {
			break
		}
		calls[n] = call{w: w.w, token: w.token, result: w.result, err: err}
		n++
	}
	for n < len(calls) && r.ready.first != nil {
		w := r.ready.first
		r.ready.remove(w)
		calls[n] = call{watch: w.watcher, token: w.token}
		n++
	}
	if n == len(calls) {
		r.dirty.Store(true)
	}
	return n
}

// raise reports the durable offset to the machine and moves the high watermark.
func (r *Replica) raise() {
	advanced, err := r.leader.ReportSelf(r.log.Durable())
	if err != nil {
		r.violate(err)
	}
	if !advanced {
		return
	}
	hw := r.leader.HighWatermark()
	r.highWatermark.Store(hw)
	r.watching.moveBelow(hw, &r.ready)
}

// nextDone takes the oldest waiting append if its fate is known. The caller holds mu.
func (r *Replica) nextDone() (w waiting, err error, ok bool) {
	first := r.waiting.first()
	if first == nil {
		return waiting{}, nil, false
	}
	if first.end <= r.leader.HighWatermark() {
		return r.waiting.pop(), nil, true
	}
	failure := r.failure.Load()
	if failure == nil {
		return waiting{}, nil, false
	}
	if first.journaled {
		// The journal fails appends in order, each by itself: only then it has let
		// go of the batches.
		if r.failedSeen == r.failed.Load() {
			return waiting{}, nil, false
		}
		r.failedSeen++
	}
	w = r.waiting.pop()
	w.result = Result{}
	return w, fmt.Errorf("append at offset %d: %w", first.result.BaseOffset, *failure), true
}

// violate stops all appends after an invariant was found broken. The caller holds mu.
func (r *Replica) violate(err error) {
	if r.broken == nil {
		r.broken = fmt.Errorf("partition %s: %w", r.log.ID(), err)
		r.violated = r.broken
	}
}
