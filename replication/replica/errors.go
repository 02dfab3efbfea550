package replica

import (
	"errors"
	"fmt"

	"github.com/sequitur-mq/sequitur/replication"
)

var (
	// ErrClosed is returned by appends to a closed replica.
	ErrClosed = errors.New("replica is closed")
	// ErrMixedBatches says that batches sent together are not one producer's consecutive
	// ones, or that only some of them are new: send them one by one.
	ErrMixedBatches = errors.New("batches sent together must be consecutive and all new or all repeated")
	// ErrNotLeader is found by errors.Is in every *NotLeaderError.
	ErrNotLeader = errors.New("not the leader")
	// ErrNotServing says that this replica leads but has not yet committed the start of
	// its epoch, so it does not know what is committed: try again in a moment.
	ErrNotServing = errors.New("leader is starting its epoch")
	// ErrMalformed says that a peer sent what is no continuation of a log.
	ErrMalformed = errors.New("malformed replication data")
)

// NotLeaderError says who leads, as far as this replica knows. For an append that was
// pending the outcome is not known: the batches may be there after all, and sending them
// to the leader under the same sequence is safe.
type NotLeaderError struct {
	Leader replication.Member // zero: none known
	Epoch  uint32
}

func (e *NotLeaderError) Error() string {
	if e.Leader.IsZero() {
		return fmt.Sprintf("%v: epoch %d has no leader yet", ErrNotLeader, e.Epoch)
	}
	return fmt.Sprintf("%v: epoch %d is led by node %d", ErrNotLeader, e.Epoch, e.Leader.Node)
}

// Is makes errors.Is find ErrNotLeader.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// notLeader is the refusal of what only a leader may do. The caller holds mu.
func (r *Replica) notLeader() error {
	return &NotLeaderError{Leader: r.machine.LeaderMember(), Epoch: r.machine.Epoch()}
}
