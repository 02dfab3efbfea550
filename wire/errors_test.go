package wire

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestErrorTable(t *testing.T) {
	names := map[string]bool{}
	for i, row := range ErrorTable() {
		require.Equal(t, Code(i), row.Code, "the table is indexed by code")
		require.Regexp(t, `^[A-Z]+(_[A-Z]+)*$`, row.Name)
		require.NotEmpty(t, row.Message)
		require.False(t, names[row.Name], row.Name)
		names[row.Name] = true
		require.Equal(t, row.Name, row.Code.String())
		require.Equal(t, row.Retriable, row.Code.Retriable())
	}
	require.Equal(t, "CODE_999", Code(999).String())
	require.False(t, Code(999).Retriable())
	require.Contains(t, Code(999).Message(), "upgrade")
}

func TestErrors(t *testing.T) {
	err := fmt.Errorf("append to %q: %w", "orders", &Error{Code: CodeStorageFull, RetryAfter: 1500 * time.Millisecond})
	require.ErrorIs(t, err, ErrStorageFull)
	require.NotErrorIs(t, err, ErrTimeout)
	require.Equal(t, CodeStorageFull, CodeOf(err))
	require.Equal(t, CodeUnknown, CodeOf(io.EOF))
	require.Equal(t, CodeNone, CodeOf(nil))
	require.True(t, ErrStorageFull.Retriable())
	require.Contains(t, ErrStorageFull.Error(), "STORAGE_FULL: the broker's disk is full")
	require.Equal(t, "UNKNOWN_TOPIC: no x", Errorf(CodeUnknownTopic, "no %s", "x").Error())
}

func TestStatusCarriesErrors(t *testing.T) {
	status := StatusOf(nil)
	require.Equal(t, Status{}, status)
	require.NoError(t, status.Err())

	plain := &Error{Code: CodeOverloaded, Message: "slow down", RetryAfter: 20 * time.Millisecond}
	status = StatusOf(plain)
	require.Equal(t, Status{Code: CodeOverloaded, Message: "slow down", RetryAfterMs: 20}, status)
	require.Equal(t, error(plain), status.Err())

	status = StatusOf(fmt.Errorf("topic orders: %w", plain))
	require.Equal(t, CodeOverloaded, status.Code)
	require.Equal(t, "topic orders: OVERLOADED: slow down", status.Message)
	require.Equal(t, uint32(20), status.RetryAfterMs)

	status = StatusOf(io.EOF)
	require.Equal(t, Status{Code: CodeUnknown, Message: "EOF"}, status)
	var e *Error
	require.True(t, errors.As(status.Err(), &e))
}

func TestFailedResponsesHaveNoBody(t *testing.T) {
	for _, c := range messageCases() {
		if !c.response {
			continue
		}
		want := Status{Code: CodeTimeout, Message: "late", RetryAfterMs: 7}
		encoded := want.appendTo(nil)
		m := c.new()
		require.NoError(t, m.Decode(encoded), c.name)
		require.Equal(t, encoded, m.AppendTo(nil), c.name)
		require.ErrorIs(t, m.(interface{ Err() error }).Err(), ErrTimeout, c.name)
	}
}
