package replica

import "fmt"

// completion is the replica as the log sees it. The log calls it once per journaled
// append, in order, so a count says which ones the journal is done with.
type completion Replica

// Complete implements log.Completion. It does not wait for the mutex.
func (c *completion) Complete(err error) {
	r := (*Replica)(c)
	r.completed.Add(1)
	r.complete(err)
}

// noted is the completion of other journal entries, such as truncations.
type noted Replica

// Complete implements log.Completion.
func (c *noted) Complete(err error) { (*Replica)(c).complete(err) }

// complete leaves a note for the holder of the mutex, or settles it.
func (r *Replica) complete(err error) {
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
func (r *Replica) noteFailure(err error) { r.failure.CompareAndSwap(nil, &err) }

// call is one outcome to be told once the mutex is released.
type call struct {
	w      Waiter
	watch  Watcher
	frame  Frame
	fn     func()
	token  int
	result Result
	err    error
}

// unlock settles what can be settled, releases the mutex and calls sessions, waiters and
// watchers. It starts over if a completion was left in the meantime, unless somebody
// else holds the mutex and will.
func (r *Replica) unlock() {
	if r.quiet() {
		r.mu.Unlock()
		if !r.dirty.Load() || !r.mu.TryLock() {
			return
		}
	}
	r.unlockBusy()
}

// quiet says that there is nobody to be told anything. The caller holds mu.
func (r *Replica) quiet() bool {
	return r.moved == notMoved && r.ready.first == nil && !r.changed && r.violated == nil &&
		r.waiting[0].n|r.waiting[1].n|r.waiting[2].n|r.held.n|len(r.fences)|len(r.barriers) == 0 && !r.dirty.Load()
}

func (r *Replica) unlockBusy() {
	var calls [8]call
	for {
		n := r.settle(calls[:])
		violated, changed, moved := r.violated, r.changed, r.moved
		r.violated, r.changed, r.moved = nil, false, notMoved
		followers, progress := r.followers, r.progress
		r.mu.Unlock()
		if moved != notMoved {
			for i := range followers {
				followers[i].Moved(moved == movedNow)
			}
			if progress != nil {
				progress.Moved(moved == movedNow)
			}
		}
		if violated != nil {
			r.options.OnFatal(violated)
		}
		if changed {
			r.options.OnChange(r)
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
	case c.frame != nil:
		c.frame.Release()
	case c.fn != nil:
		c.fn()
	case c.w != nil:
		c.w.Appended(c.token, c.result, c.err)
	}
}

// settle brings the machine up to what is durable and fills calls with who is done, at
// most as many as fit: the rest is left for the next round. The caller holds mu.
func (r *Replica) settle(calls []call) (n int) {
	if r.dirty.Swap(false) {
		r.raise()
		if fence := r.persisted.Load(); fence != r.adopted {
			r.adopted, r.moved = fence, movedNow // NextFetch waits for it
		}
	}
	if len(r.fences) > 0 || len(r.barriers) > 0 {
		n = r.settleRare(calls)
	}
	for n < len(calls) && r.held.n > 0 && r.held.first().number <= r.completed.Load() {
		calls[n] = call{frame: r.held.pop().frame}
		n++
	}
	for acks := AcksLeader; acks <= AcksAll; acks++ {
		for n < len(calls) {
			w, err, ok := r.nextDone(acks)
			if !ok {
				break
			}
			calls[n] = call{w: w.w, token: w.token, result: w.result, err: err}
			n++
		}
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
	before := r.machine.DurableEnd()
	advanced, err := r.machine.Durable(r.log.Durable())
	if err != nil {
		r.violate(err)
	}
	if r.leader == nil && r.machine.DurableEnd() != before {
		r.moved = movedNow
	}
	if advanced {
		r.advance()
	}
}

// advance shows a high watermark that rose. The caller holds mu.
func (r *Replica) advance() {
	hw := r.machine.HighWatermark()
	if hw == r.highWatermark.Load() {
		return
	}
	r.highWatermark.Store(hw)
	r.watching.moveBelow(hw, &r.ready)
	if r.leader != nil {
		if len(r.followers) > 0 {
			r.moved = max(r.moved, movedLater)
		}
		if !r.serving && r.leader.Serving() {
			r.serving, r.changed = true, true
		}
	}
}

// nextDone takes the oldest waiting append of a level if its fate is known and the
// journal has let go of its batches. The caller holds mu.
func (r *Replica) nextDone(acks Acks) (w waiting, err error, ok bool) {
	q := &r.waiting[acks-1]
	first := q.first()
	if first == nil || first.number > r.completed.Load() {
		return waiting{}, nil, false
	}
	if first.fate == done || first.fate == open && first.end <= r.reached(acks) {
		return q.pop(), nil, true
	}
	failure := r.failure.Load()
	switch {
	case first.fate == lost && r.closed:
		err = ErrClosed
	case first.fate == lost:
		err = r.notLeader()
	case failure != nil:
		err = fmt.Errorf("append at offset %d: %w", first.result.BaseOffset, *failure)
	default:
		return waiting{}, nil, false
	}
	w = q.pop()
	w.result = Result{}
	return w, err, true
}

// violate stops all appends after an invariant was found broken. The caller holds mu.
func (r *Replica) violate(err error) {
	if r.broken == nil {
		r.broken = fmt.Errorf("partition %s: %w", r.log.ID(), err)
		r.violated = r.broken
	}
}
