package log

import (
	"context"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/stretchr/testify/require"
)

// pausedHandler holds up whoever reports that storage failed.
type pausedHandler struct {
	slog.Handler
	reached, resume chan struct{}
}

func (h pausedHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h pausedHandler) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "storage failed") {
		close(h.reached)
		<-h.resume
	}
	return nil
}

// Two writes fail at once: a segment's, and the journal's a moment later while the first failure is still being
// reported. What the journal could not write must fail all the same.
func TestSecondFailureAcknowledgesNothing(t *testing.T) {
	fsys := vfs.NewMem(vfs.MemOptions{})
	o := smallOptions(fsys)
	h := pausedHandler{slog.DiscardHandler, make(chan struct{}), make(chan struct{})}
	o.Logger = slog.New(h)
	s := openStore(t, "/data", o)
	require.NoError(t, s.Create(Spec{ID: testID(1)}, Spec{ID: testID(2)}))
	first, second := newProducer(t, partition(t, s, testID(1))), newProducer(t, partition(t, s, testID(2)))
	second.append(1, 100)

	journal, broken := make(chan struct{}), make(chan struct{})
	fsys.SetFault(func(op vfs.Op, name string) error {
		switch {
		case op != vfs.OpWrite:
		case strings.Contains(name, "/journal/"):
			close(journal)
			<-broken
			return syscall.EIO
		case strings.Contains(name, testID(2).String()):
			return syscall.EIO
		}
		return nil
	})
	outcome := make(chan error)
	go func() { outcome <- appendWait(first.p, first.batch(first.p.End(), 1, 100)) }()
	<-journal
	refused := make(chan error)
	go func() { refused <- appendWait(second.p, second.batch(second.p.End(), 1, 100)) }()
	<-h.reached
	close(broken)
	require.ErrorIs(t, <-outcome, ErrStorageFailed)
	require.EqualValues(t, 0, first.p.Durable())
	close(h.resume)
	require.ErrorIs(t, <-refused, ErrStorageFailed)
	require.ErrorIs(t, s.Close(), ErrStorageFailed)
}
