package broker

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const forever = time.Hour

func TestBudgetReserveServesSmallFrames(t *testing.T) {
	b := newBudget(4 << 20) // 3 MiB and 1 MiB of reserve
	large, ok := b.tryAcquire(3 << 20)
	require.True(t, ok)
	_, ok = b.tryAcquire(1 << 20)
	require.False(t, ok, "a large frame may not use the reserve")
	var small []grant
	for range 16 {
		g, ok := b.tryAcquire(smallFrame)
		require.True(t, ok)
		small = append(small, g)
	}
	_, ok = b.tryAcquire(smallFrame)
	require.False(t, ok)
	require.EqualValues(t, 4<<20, b.stats().used)
	for _, g := range append(small, large) {
		b.release(g)
	}
	require.Zero(t, b.stats().used)
}

func TestBudgetServesInOrderOfArrival(t *testing.T) {
	b := newBudget(4 << 20)
	held, _ := b.tryAcquire(3 << 20)
	drain := make([]grant, 0, 16)
	for range 16 {
		g, _ := b.tryAcquire(smallFrame)
		drain = append(drain, g)
	}
	order := make(chan int64, 2)
	var wg sync.WaitGroup
	for _, n := range []int64{3 << 20, smallFrame} {
		wg.Go(func() {
			if g, ok := b.acquire(n, forever, nil); ok {
				order <- g.bytes
				b.release(g)
			}
		})
		for b.stats().queued == 0 || n == smallFrame && b.stats().queued < 2 {
			runtime.Gosched()
		}
	}
	b.release(held)
	wg.Wait()
	require.EqualValues(t, 3<<20, <-order, "the large frame came first")
	for _, g := range drain {
		b.release(g)
	}
	require.Zero(t, b.stats().used)
}

func TestBudgetGivesUp(t *testing.T) {
	b := newBudget(4 << 20)
	held, _ := b.tryAcquire(3 << 20)
	_, ok := b.acquire(2<<20, time.Nanosecond, nil)
	require.False(t, ok)
	stop := make(chan struct{})
	close(stop)
	_, ok = b.acquire(2<<20, forever, stop)
	require.False(t, ok)
	st := b.stats()
	require.EqualValues(t, []any{0, uint64(2), uint64(2)}, []any{st.queued, st.waits, st.refused})
	b.release(held)
	_, ok = b.tryAcquire(3 << 20)
	require.True(t, ok)
}

// Whatever happens, no more is granted than there is, and all comes back.
func TestBudgetNeverOvercommits(t *testing.T) {
	b := newBudget(1 << 20)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				g, ok := b.acquire(int64(1+(i*7919+n*104729)%(700<<10)), time.Millisecond, nil)
				if st := b.stats(); st.used > st.limit {
					t.Errorf("%d of %d bytes granted", st.used, st.limit)
				}
				if ok {
					b.release(g)
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, b.stats().used)
	require.Zero(t, b.stats().queued)
}

func TestBufferClasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 1<<maxBufferShift).Draw(t, "bytes")
		class := bufferClass(n)
		require.GreaterOrEqual(t, bufferClassSize(class), n)
		if class > 0 {
			require.Less(t, bufferClassSize(class-1), n, "the class is the smallest that fits")
			require.LessOrEqual(t, bufferClassSize(class), n+n/4)
		}
	})
	require.Equal(t, bufferClasses-1, bufferClass(1<<maxBufferShift))
	var p buffers
	b := p.get(65 << 10)
	require.Len(t, b.bytes, 80<<10)
	p.put(b)
}

func TestHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(15*time.Minute)).Draw(t, "duration"))
		bucket := histogramBucket(d)
		require.Less(t, d, histogramBound(bucket))
		if bucket > 0 {
			require.GreaterOrEqual(t, d, histogramBound(bucket-1))
		}
	})
	var h histogram
	for i := range 1000 {
		h.observe(time.Duration(i) * time.Microsecond)
	}
	h.observe(-1)
	h.observe(100 * time.Hour)
	s := h.snapshot()
	require.EqualValues(t, 1002, s.Count)
	require.InEpsilon(t, 500*time.Microsecond, s.Quantile(0.5), 0.13)
	require.InEpsilon(t, 990*time.Microsecond, s.Quantile(0.99), 0.13)
	require.Zero(t, Distribution{}.Quantile(0.5))
}

func TestCowMap(t *testing.T) {
	m := newCowMap[uint64, int](func(k uint64) uint8 { return uint8(k) })
	_, ok := m.load(1)
	require.False(t, ok)
	var wg sync.WaitGroup
	for i := range uint64(1000) {
		wg.Go(func() { m.store(i, int(i)) })
	}
	wg.Wait()
	require.Equal(t, 1000, m.len())
	m.store(7, 8)
	m.remove(9)
	m.remove(9)
	require.Equal(t, 999, m.len())
	v, ok := m.load(7)
	require.True(t, ok)
	require.Equal(t, 8, v)
	sum := 0
	m.each(func(_ uint64, v int) { sum += v })
	require.Equal(t, 999*500+1-9, sum)
}
