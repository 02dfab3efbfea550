package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/sequitur-mq/sequitur/wire"
)

// fsm is how Raft reaches the machine. Its methods are called on one goroutine of Raft.
type fsm struct{ r *Raft }

var _ raft.BatchingFSM = fsm{}

var errHalted = errors.New("the metadata machine has stopped")

// applied is the answer to a command that was applied.
type applied struct {
	Result
	index uint64
	err   error
}

// Apply implements raft.FSM.
func (f fsm) Apply(e *raft.Log) any { return f.ApplyBatch([]*raft.Log{e})[0] }

// ApplyBatch implements raft.BatchingFSM.
func (f fsm) ApplyBatch(entries []*raft.Log) []any {
	r := f.r
	answers := make([]any, len(entries))
	if !r.awaitStart() {
		for i := range answers {
			answers[i] = applied{err: errHalted}
		}
		return answers
	}
	var changes []Change
	ids := make([]RequestID, len(entries))
	last := uint64(0)
	r.mu.Lock()
	for i, e := range entries {
		if e.Type != raft.LogCommand || r.dead.Load() {
			answers[i] = applied{index: e.Index, err: errHalted}
			continue
		}
		result, err := r.machine.Apply(e.Index, e.Data)
		if err != nil {
			// The command stays in the log: whoever can read it goes on.
			r.mu.Unlock()
			r.die(err)
			r.mu.Lock()
		} else {
			ids[i], _, _ = unwrap(e.Data)
			last = e.Index
		}
		changes = append(changes, result.Changes...)
		answers[i] = applied{result, e.Index, err}
	}
	r.mu.Unlock()
	r.changed(changes)
	for i, id := range ids {
		if id != (RequestID{}) {
			r.proposed.finish(id, answers[i].(applied).Result, nil)
		}
	}
	r.progress.reached(last)
	if last > 0 {
		signal(r.commits)
	}
	return answers
}

// spreadCommits lets the followers hear of what was committed. Raft tells them with the next
// entry, or after its commit time-out, so where commands are rare they would be 10 to 20
// ms behind; a barrier right behind the commands is that next entry.
func (r *Raft) spreadCommits() {
	for {
		select {
		case <-r.commits:
		case <-r.stopped.Done():
			return
		}
		if r.IsLeader() {
			// Without effect where it fails. Nobody waits for it: an entry that the
			// library takes while it stops may never be answered.
			_ = r.raft.Barrier(0)
		}
	}
}

// barrier waits until everything committed so far is applied here. An entry that the
// library takes while it stops may never be answered, so nobody waits for it longer than
// this broker runs.
func (r *Raft) barrier() error {
	outcome := make(chan error, 1)
	go func() { outcome <- r.raft.Barrier(0).Error() }()
	select {
	case err := <-outcome:
		return err
	case <-r.stopped.Done():
		return ErrClosed
	}
}

// awaitStart waits until the machine may change; it reports false if it must not.
func (r *Raft) awaitStart() bool {
	select {
	case <-r.started:
	case <-r.stopped.Done():
		r.dead.Store(true) // what is left out here must not get into a snapshot
	}
	return !r.dead.Load()
}

func (r *Raft) changed(changes []Change) {
	if len(changes) == 0 {
		return
	}
	r.o.OnChanges(changes)
	for _, c := range changes {
		if c.Kind == BrokersChanged {
			r.leader.wakeMembership()
			return
		}
	}
}

// Snapshot implements raft.FSM.
func (f fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.r.dead.Load() {
		return nil, errHalted
	}
	return stateSnapshot(f.r.machine.Snapshot()), nil // only this goroutine changes the machine
}

// stateSnapshot is an encoded state. It implements raft.FSMSnapshot.
type stateSnapshot []byte

// Persist implements raft.FSMSnapshot.
func (s stateSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return err
	}
	return sink.Close()
}

// Release implements raft.FSMSnapshot.
func (s stateSnapshot) Release() {}

// Restore implements raft.FSM: at the opening, or when this broker is so far behind that
// the leader sends it the state instead of the commands.
func (f fsm) Restore(source io.ReadCloser) error {
	data, err := io.ReadAll(io.LimitReader(source, maxSnapshotBytes+1))
	if err != nil {
		return err
	}
	next := NewMachine()
	if err := next.Restore(data); err != nil {
		return err
	}
	r := f.r
	r.mu.Lock()
	if !r.opened.Load() { // nobody has seen the state before
		r.machine = next
		r.mu.Unlock()
		r.progress.reached(next.Applied())
		return nil
	}
	r.mu.Unlock()
	if !r.awaitStart() {
		return errHalted
	}
	r.mu.Lock()
	old := r.machine
	r.machine = next
	r.mu.Unlock()
	r.changed(diff(old, next))
	r.proposed.finishKnown(next)
	r.progress.reached(next.Applied())
	return nil
}

// halt ends the goroutine after a failure, unless Raft is being opened or closed.
func (h haltingLog) halt(err error) error {
	if err != nil && h.open.Load() {
		runtime.Goexit()
	}
	return err
}

// applying says whether the caller is Raft as it applies committed entries. Others that
// read the log cope with errors.
func applying() bool {
	callers := make([]uintptr, 8)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, "/raft.(*Raft).processLogs") {
			return true
		}
		if !more {
			return false
		}
	}
}

// progress is how far the machine has come.
type progress struct {
	mu    sync.Mutex
	index uint64
	moved chan struct{} // closed at the next step
}

func (p *progress) reached(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index > p.index {
		p.index = index
		close(p.moved)
		p.moved = make(chan struct{})
	}
}

func (p *progress) now() (uint64, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index, p.moved
}

// Applied is the index of the last command that this broker's machine has applied.
func (r *Raft) Applied() uint64 {
	index, _ := r.progress.now()
	return index
}

// WaitApplied waits until this broker's machine has applied the command with an index,
// and OnChanges has heard of it.
func (r *Raft) WaitApplied(ctx context.Context, index uint64) error {
	for {
		now, moved := r.progress.now()
		if now >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for metadata command %d, %d is applied: %w", index, now, ctx.Err())
		case <-r.stopped.Done():
			return ErrClosed
		}
	}
}

// checkCommand refuses what would stop the machines of the cluster.
func checkCommand(command []byte) error {
	if len(command) > MaxCommandBytes {
		return wire.Errorf(wire.CodeInvalidRequest, "a metadata command of %d bytes; at most %d are possible: divide it", len(command), MaxCommandBytes)
	}
	_, inner, err := unwrap(command)
	if err == nil {
		_, err = Decode(inner)
	}
	if err != nil {
		return wire.Errorf(wire.CodeInvalidRequest, "%v", err)
	}
	return nil
}
