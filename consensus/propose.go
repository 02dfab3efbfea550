package consensus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/sequitur-mq/sequitur/wire"
)

// MaxCommandBytes bounds an encoded command.
const MaxCommandBytes = 4 << 20

// How long a proposer waits before it tries again where it found no leader: twice as long
// each time.
const (
	retryFirst = 5 * time.Millisecond
	retryLast  = 100 * time.Millisecond
	// forwardTimeout bounds one attempt: the leader may have gone, and another one be there.
	forwardTimeout = 2 * time.Second
)

// proposed are the proposals whose outcome is not known yet.
type proposed struct {
	mu      sync.Mutex
	closed  bool
	waiting map[RequestID]*proposing
	open    sync.WaitGroup
}

// proposing is one of them.
type proposing struct {
	id       RequestID
	command  []byte
	done     func(Result, error)
	finished chan struct{}
}

func (p *proposed) begin(x *proposing) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.waiting[x.id] = x
	p.open.Add(1)
	return nil
}

// finish answers a proposal, if nobody did yet and it is one of this broker.
func (p *proposed) finish(id RequestID, r Result, err error) {
	p.mu.Lock()
	x, ok := p.waiting[id]
	delete(p.waiting, id)
	p.mu.Unlock()
	if ok {
		x.done(r, err)
		close(x.finished)
	}
}

// finishKnown answers the proposals whose results a machine remembers.
func (p *proposed) finishKnown(m *Machine) {
	p.mu.Lock()
	var known []RequestID
	for id := range p.waiting {
		if _, ok := m.answered.byID[id]; ok {
			known = append(known, id)
		}
	}
	p.mu.Unlock()
	for _, id := range known {
		r, _ := m.answered.find(id)
		p.finish(id, r, nil)
	}
}

// close refuses further proposals and waits a while for those under way.
func (p *proposed) close() {
	p.mu.Lock()
	p.closed = true
	under := make([]*proposing, 0, len(p.waiting))
	for _, x := range p.waiting {
		under = append(under, x)
	}
	p.mu.Unlock()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	for _, x := range under {
		select {
		case <-x.finished:
		case <-grace.C:
			return
		}
	}
}

// Propose implements Driver. On a broker that does not lead Raft the command is forwarded
// to the one that does, again and again until its outcome is known or ProposeTimeout is
// over; the machine carries it out once. After the time-out the outcome is not known:
// the error is TIMEOUT.
func (r *Raft) Propose(c Command, done func(Result, error)) {
	x := &proposing{done: done, finished: make(chan struct{})}
	_, _ = rand.Read(x.id[:]) // never fails
	x.command = wrap(x.id, Encode(c))
	err := checkCommand(x.command)
	if err == nil {
		err = r.proposed.begin(x)
	}
	if err != nil {
		done(Result{}, fmt.Errorf("metadata command: %w", err))
		return
	}
	go func() {
		defer r.proposed.open.Done()
		r.drive(x)
	}()
}

// Do implements Driver.
func (r *Raft) Do(ctx context.Context, c Command) (Result, error) { return proposeAndWait(ctx, r, c) }

// drive sees to it that a proposal is finished.
func (r *Raft) drive(x *proposing) {
	ctx, cancel := context.WithTimeout(r.stopped, r.o.ProposeTimeout)
	defer cancel()
	pause := retryFirst
	for {
		err := r.try(ctx, x)
		if err != nil && !retriable(err) {
			r.proposed.finish(x.id, Result{}, fmt.Errorf("metadata command: %w", err))
			return
		}
		retry := time.NewTimer(pause)
		if err == nil {
			retry.Stop() // it is on its way into this broker's machine
		}
		moved := r.leader.changes()
		select {
		case <-x.finished:
			retry.Stop()
			return
		case <-ctx.Done():
			retry.Stop()
			r.proposed.finish(x.id, Result{}, r.gaveUp(err))
			return
		case <-retry.C:
			pause = min(2*pause, retryLast)
		case <-moved:
			retry.Stop()
		}
	}
}

func (r *Raft) gaveUp(err error) error {
	if r.stopped.Err() != nil {
		return fmt.Errorf("metadata command: %w", ErrClosed)
	}
	if err == nil {
		err = errors.New("it was committed, but this broker does not hear of it")
	}
	return wire.Errorf(wire.CodeTimeout, "the cluster's metadata did not take a change within %v; a majority of the Raft voters must be up (%v)", r.o.ProposeTimeout, err)
}

// try has the command committed, here or by the leader. Without error it is, and the
// machine applies it or has done so.
func (r *Raft) try(ctx context.Context, x *proposing) error {
	if r.IsLeader() {
		_, err := r.apply(ctx, x.command)
		return err
	}
	_, addr := r.Leader()
	if addr == "" {
		return notLeader
	}
	once, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	index, result, err := r.o.Forward(once, addr, x.command)
	if err != nil {
		return err
	}
	answer, err := DecodeResult(result)
	if err != nil {
		return err
	}
	// The machine answers when it applies the command. If it got a snapshot instead
	// which does not remember the command any more, this does.
	if err := r.WaitApplied(ctx, index); err != nil {
		return err
	}
	r.proposed.finish(x.id, answer, nil)
	return nil
}

// apply has a command applied by Raft, which this broker leads.
func (r *Raft) apply(ctx context.Context, command []byte) (applied, error) {
	timeout := r.o.ProposeTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(deadline)), time.Millisecond)
	}
	future := r.raft.Apply(command, timeout)
	outcome := make(chan error, 1)
	go func() { outcome <- future.Error() }()
	var err error
	select {
	case err = <-outcome:
	case <-ctx.Done():
		return applied{}, ctx.Err()
	case <-r.stopped.Done():
		return applied{}, ErrClosed
	}
	if err != nil {
		switch {
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return applied{}, notLeader
		case errors.Is(err, raft.ErrRaftShutdown):
			return applied{}, ErrClosed
		}
		return applied{}, err
	}
	a, ok := future.Response().(applied)
	if !ok {
		return applied{}, errHalted
	}
	return a, a.err
}

// ApplyForwarded carries out a command that another broker forwarded, if this one leads
// Raft; otherwise the error is NOT_LEADER. The result is for DecodeResult.
func (r *Raft) ApplyForwarded(ctx context.Context, command []byte) (index uint64, result []byte, err error) {
	if err := checkCommand(command); err != nil {
		return 0, nil, err
	}
	if !r.IsLeader() {
		return 0, nil, notLeader
	}
	a, err := r.apply(ctx, command)
	if err != nil {
		return 0, nil, err
	}
	return a.index, EncodeResult(a.Result), nil
}
