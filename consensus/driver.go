package consensus

import (
	"context"
	"fmt"
)

// A Driver feeds a machine: Local on a broker of its own, Raft in a cluster. Its
// methods may be called concurrently.
type Driver interface {
	// View calls fn with the machine, which must not be kept nor changed. Topics
	// may be kept.
	View(fn func(*Machine))
	// Propose proposes a command. done is called once: after this broker's machine
	// has applied the command, or with the error that kept it from that. It must
	// not block nor wait for another command. A refusal by the machine is in the
	// result, not in the error.
	Propose(c Command, done func(Result, error))
	// Do is Propose that waits. If ctx ends first the outcome is not known.
	Do(ctx context.Context, c Command) (Result, error)
	// Close waits for the commands that were proposed, as far as they can still
	// be decided, and refuses further ones. It comes before the store is closed.
	Close()
}

var _ Driver = (*Local)(nil)

// proposeAndWait is Driver.Do by way of propose.
func proposeAndWait(ctx context.Context, d Driver, c Command) (Result, error) {
	type outcome struct {
		Result
		error
	}
	done := make(chan outcome, 1)
	d.Propose(c, func(r Result, err error) { done <- outcome{r, err} })
	select {
	case o := <-done:
		return o.Result, o.error
	case <-ctx.Done():
		return Result{}, fmt.Errorf("metadata command: %w", ctx.Err())
	}
}
