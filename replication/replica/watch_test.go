package replica

import (
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/stretchr/testify/require"
)

func TestWatch(t *testing.T) {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{})
	g := gateJournal(b.fs)
	b.append(t, batch(7, 1, 0, 2))
	l := newListener()
	watches := make([]Watch, 5)
	require.False(t, b.Watch(&watches[0], 1, l, 0), "already beyond")
	for i := range watches {
		require.True(t, b.Watch(&watches[i], int64(2+i), l, i))
	}
	g.shut()
	_, pending, err := b.Append(batch(7, 1, 2, 2), AcksQuorum, nil, 0)
	require.NoError(t, err)
	require.True(t, pending)
	l.requireNone(t)
	require.True(t, b.Unwatch(&watches[1]))
	require.False(t, b.Unwatch(&watches[1]))
	g.unlock()
	require.Equal(t, answer{token: 0}, <-l)
	// Those beyond 3 wait on; the one that was called may register again.
	require.True(t, b.Watch(&watches[0], 4, l, 10))
	b.append(t, batch(7, 1, 4, 1))
	got := map[int]bool{(<-l).token: true, (<-l).token: true}
	require.Equal(t, map[int]bool{10: true, 2: true}, got)
	l.requireNone(t)
	require.True(t, b.Unwatch(&watches[3]))
	require.True(t, b.Unwatch(&watches[4]))
}

// chain registers itself again from within its call, as a long poll does that wants
// more.
type chain struct {
	r    *Replica
	w    Watch
	seen chan int64
}

func (c *chain) Passed(token int) {
	hw := c.r.HighWatermark()
	c.seen <- hw
	if !c.r.Watch(&c.w, hw, c, token) {
		c.Passed(token)
	}
}

func TestWatchAgainFromWithin(t *testing.T) {
	b := openBed(t, vfs.NewMem(vfs.MemOptions{}), log.Config{}, Options{})
	c := &chain{r: b.Replica, seen: make(chan int64, 100)}
	require.True(t, b.Watch(&c.w, 0, c, 0))
	for seq := range uint32(5) {
		b.append(t, batch(7, 1, seq, 1))
	}
	for hw := int64(0); hw < 5; {
		next := <-c.seen
		require.Greater(t, next, hw)
		hw = next
	}
	require.True(t, b.Unwatch(&c.w))
}
