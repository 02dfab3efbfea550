package sequitur

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

// A time-out names what the broker refused meanwhile.
func TestErrorMatchesTheRefusalBehindIt(t *testing.T) {
	err := error(&Error{Code: Code(wire.CodeTimeout.String()), Err: wire.Errorf(wire.CodeStorageFull, "no space")})
	require.ErrorIs(t, err, ErrTimeout)
	require.ErrorIs(t, err, ErrStorageFull)
	require.False(t, errors.Is(err, ErrCorrupt))
	require.False(t, errors.Is(&Error{Code: Code(wire.CodeTimeout.String())}, ErrStorageFull))
}

func TestTimesBeyondTheProtocolsRange(t *testing.T) {
	require.Equal(t, int64(math.MaxInt64), At(time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)).nanoseconds())
	require.Equal(t, int64(math.MinInt64), At(time.Time{}).nanoseconds())
	require.Equal(t, int64(7), At(time.Unix(0, 7)).nanoseconds())
}
