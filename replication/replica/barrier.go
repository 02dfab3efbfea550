package replica

// barrier waits for a majority to confirm that this replica still leads.
type barrier struct {
	round uint64
	done  func(highWatermark int64, err error)
	err   error // decided
	over  bool
}

// Barrier confirms by one round with a majority that this replica leads, and hands the
// high watermark to done: everything committed before the call is below it. done gets a
// *NotLeaderError if leadership ends first. It is called with no lock held, perhaps
// before Barrier returns, and must not block. A quorum of one answers at once.
func (r *Replica) Barrier(done func(highWatermark int64, err error)) {
	r.mu.Lock()
	defer r.unlock()
	b := barrier{done: done}
	switch {
	case r.closed:
		b.over, b.err = true, ErrClosed
	case r.leader == nil:
		b.over, b.err = true, r.notLeader()
	default:
		b.round = r.leader.StartRound()
		if r.leader.RoundDone() < b.round {
			r.moved = movedNow
		}
	}
	r.barriers = append(r.barriers, b)
}

// failBarriers ends all barriers, nil meaning that another leads. The caller holds mu.
func (r *Replica) failBarriers(err error) {
	for i := range r.barriers {
		if b := &r.barriers[i]; !b.over {
			if b.over, b.err = true, err; err == nil {
				b.err = r.notLeader()
			}
		}
	}
}

// settleBarriers answers barriers that are due. The caller holds mu.
func (r *Replica) settleBarriers(calls []call) (n int) {
	if len(r.barriers) == 0 {
		return 0
	}
	var round uint64
	if r.leader != nil && r.leader.Serving() {
		round = r.leader.RoundDone()
	}
	for n < len(calls) && len(r.barriers) > 0 {
		b := r.barriers[0]
		if !b.over && (r.leader == nil || !r.leader.Serving() || b.round > round) {
			break
		}
		hw := r.machine.HighWatermark()
		calls[n] = call{fn: func() { b.done(hw, b.err) }}
		r.barriers = r.barriers[1:]
		n++
	}
	return n
}
