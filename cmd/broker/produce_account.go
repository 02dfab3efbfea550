package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/cmd/broker/internal/lines"
)

// account says what became of the input. Its JSON is part of the interface.
type account struct {
	Topic          string  `json:"topic"`
	Acknowledged   int64   `json:"acknowledged"`
	Unacknowledged int64   `json:"unacknowledged"` // sent with --acks none: nobody knows
	Failed         int64   `json:"failed"`
	NotSent        int64   `json:"not_sent"`
	Counted        bool    `json:"counted"` // false: the input goes on, not_sent is a lower bound
	Duplicates     int64   `json:"duplicates"`
	WithoutKey     int64   `json:"without_key"`
	Bytes          int64   `json:"bytes"` // of the acknowledged records' values
	Seconds        float64 `json:"seconds"`
	FirstMissing   int64   `json:"first_unacknowledged_line"` // 0: none
	Error          string  `json:"error,omitempty"`

	err error // what the command ends with
}

// account closes the books: it counts what was not sent and settles on an
// error and its exit code. why is the reason for an early end.
func (r *produceRun) account(in *lines.Reader, source *stoppable, from *input, why error) *account {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &account{
		Topic: r.topic, Acknowledged: r.acked, Failed: r.failed, Counted: true,
		Duplicates: r.duplicates, WithoutKey: r.unkeyed, Bytes: r.ackedBytes,
		FirstMissing: r.firstFailed,
	}
	if !r.began.IsZero() {
		a.Seconds = time.Since(r.began).Seconds()
	}
	if r.acks == sequitur.AcksNone {
		a.Acknowledged, a.Unacknowledged = 0, r.acked
	}
	if why != nil || r.failed > 0 {
		a.NotSent, a.Counted = countUnsent(in, source, from)
		a.NotSent += in.Number() - r.sent
		if next := r.sent + 1; a.FirstMissing == 0 && (a.NotSent > 0 || !a.Counted) {
			a.FirstMissing = next
		}
	}
	a.err = r.outcome(a, why)
	if a.err != nil {
		a.Error = r.c.explain(a.err).what
	}
	return a
}

// countUnsent counts the lines left in the input, at most for countTimeout
// where it is a pipe and may never end. It reports whether it saw the end.
func countUnsent(in *lines.Reader, source *stoppable, from *input) (int64, bool) {
	if from.terminal {
		return 0, false
	}
	ctx := context.Background()
	if from.size < 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, countTimeout)
		defer cancel()
	}
	source.until(ctx)
	n, err := in.CountRest()
	return n, err == nil
}

// outcome chooses the error: an interruption, else the first record's failure,
// else why the sending ended.
func (r *produceRun) outcome(a *account, why error) error {
	cause := why
	if !errors.Is(why, errInterrupted) && r.failure != nil {
		cause = r.failure
	}
	if cause == nil && r.unprinted != nil {
		return fail(exitFailure, "what was acknowledged before is stored all the same", "acknowledgements cannot be printed: %v", r.unprinted)
	}
	if cause == nil {
		return nil
	}
	f := *r.c.explain(cause)
	if r.failure != nil && cause == r.failure {
		f.what = fmt.Sprintf("line %d was not acknowledged: %s", r.firstFailed, f.what)
		if errors.Is(cause, sequitur.ErrBatchTooLarge) { // only the broker knows what compression leaves
			f.what += fmt.Sprintf("; topic %s takes batches of %s (max-batch-bytes), compressed", r.topic, sizeText(uint64(r.batchLimit)))
			f.todo = r.raiseLimit()
		}
		var remote *sequitur.Error
		if errors.As(cause, &remote) && remote.MaybeDone {
			f.todo = strings.TrimSpace(f.todo + "\nits outcome is unknown: the failed records may have been stored all the same")
		}
	}
	if f.code != exitInterrupted && r.acked > 0 {
		f.code = exitPartial
	}
	return &f
}

// print shows the account: on standard error for people, on standard output as
// JSON.
func (a *account) print(c *cli, r *produceRun) {
	if c.json {
		// The account always marshals: it holds numbers and strings only.
		line, _ := json.Marshal(a)
		fmt.Fprintf(c.stdout, "%s\n", line)
		return
	}
	if r.quiet {
		return
	}
	var b strings.Builder
	if r.acks == sequitur.AcksNone {
		fmt.Fprintf(&b, "sent without acknowledgement %s", count(a.Unacknowledged, "record"))
	} else {
		fmt.Fprintf(&b, "acknowledged %s", count(a.Acknowledged, "record"))
	}
	fmt.Fprintf(&b, " (%s) in %.2f s", roundSize(uint64(a.Bytes)), a.Seconds)
	fmt.Fprintf(&b, "; failed %s; not sent ", thousands(a.Failed))
	if !a.Counted {
		b.WriteString("at least ")
	}
	b.WriteString(thousands(a.NotSent))
	if a.Duplicates > 0 {
		fmt.Fprintf(&b, "; duplicates %s", thousands(a.Duplicates))
	}
	if a.WithoutKey > 0 && (r.key != lines.NoKey{}) {
		fmt.Fprintf(&b, "; without a key %s", thousands(a.WithoutKey))
	}
	if a.FirstMissing > 0 {
		fmt.Fprintf(&b, "; first line not acknowledged %s", thousands(a.FirstMissing))
	}
	fmt.Fprintln(c.stderr, b.String())
}
