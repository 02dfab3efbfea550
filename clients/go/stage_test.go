package sequitur

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

// Records that are staged and records that are not keep their order among each other.
func TestStagedAndDirectRecordsKeepTheirOrder(t *testing.T) {
	s := startServer(t)
	s.create("many", config(4*stageFrom))
	s.create("few", config(2))
	p := newProducer(t, connect(t, s.addr()))
	h := newHistory()
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := range 3000 {
				v := fmt.Sprintf("s%d/%d", g, i)
				r := Record{Topic: "many", Key: []byte{byte(rand.IntN(20))}, Value: []byte(v)}
				switch rand.IntN(10) {
				case 0:
					r.Headers = []Header{{Key: "h"}}
				case 1:
					r.MessageID = v
				case 2:
					r.Topic = "few"
				case 3:
					if i%50 == 0 {
						ack, err := p.Send(t.Context(), r)
						h.outcome(v)(ack, err)
						continue
					}
				case 4:
					if i%100 == 0 {
						require.NoError(t, p.Flush(t.Context()))
					}
				}
				require.NoError(t, p.SendAsync(t.Context(), r, h.outcome(v)))
			}
		})
	}
	wg.Wait()
	require.NoError(t, p.Close(t.Context()))
	require.Empty(t, h.failed)
	require.Len(t, h.acked, 9000)
	var many, few [][]string
	for i := range 4 * stageFrom {
		many = append(many, s.log("many", i))
	}
	for i := range 2 {
		few = append(few, s.log("few", i))
	}
	total := 0
	for _, logs := range [][][]string{many, few} {
		of := newHistory()
		for v, a := range h.acked {
			if a.Topic == "many" && len(logs) > 2 || a.Topic == "few" && len(logs) == 2 {
				of.acked[v] = a
			}
		}
		require.NoError(t, of.check(logs))
		total += len(slices.Concat(logs...))
	}
	require.Equal(t, 9000, total)
}

// Nulls, empty values and long records go through the stage unchanged.
func TestStagedContents(t *testing.T) {
	s := startServer(t)
	s.create("many", config(stageFrom))
	c := connect(t, s.addr())
	p := newProducer(t, c)
	values := [][]byte{nil, {}, []byte("v"), make([]byte, stageBytes/16), make([]byte, 100_000)}
	send := func(n int) {
		for i := range n {
			require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "many", Key: []byte("k"), Value: values[i%len(values)]}, nil))
			require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "many", Key: []byte{}, Value: values[i%len(values)]}, nil))
		}
	}
	send(40)
	require.NotNil(t, p.stage.topic.Load(), "nothing is staged")
	require.NoError(t, p.Close(t.Context()))
	k := newConsumer(t, c, "many", UntilEnd())
	seen := map[string]int{}
	for r, err := range k.Records(t.Context()) {
		require.NoError(t, err)
		require.NotNil(t, r.Key)
		want := values[seen[string(r.Key)]%len(values)]
		require.Equal(t, want == nil, r.Value == nil)
		require.Equal(t, len(want), len(r.Value))
		seen[string(r.Key)]++
	}
	require.Equal(t, map[string]int{"k": 40, "": 40}, seen)
}

// The stage is part of the bounded memory, and what is in it fails with the rest.
func TestStageIsBoundedAndFailsWithTheProducer(t *testing.T) {
	s := startServer(t)
	s.create("many", config(stageFrom))
	s.hang = func(k wire.Kind) bool { return k == wire.KindProduce }
	c := connect(t, s.addr())
	const limit = 4 * stageMemory
	p := newProducer(t, c, WithMaxBufferedBytes(limit), WithBlockOnFull(false))
	h := newHistory()
	var err error
	sent := 0
	for err == nil {
		v := fmt.Sprintf("s/%d", sent)
		r := Record{Topic: "many", Key: []byte(v), Value: append([]byte(v), make([]byte, 1000)...)}
		if err = p.SendAsync(t.Context(), r, h.outcome(v)); err == nil {
			sent++
		}
	}
	require.ErrorIs(t, err, ErrBufferFull)
	p.mu.Lock()
	require.LessOrEqual(t, p.buffered, int64(limit+limit/4))
	require.Greater(t, int64(sent*1000), int64(limit/3))
	p.mu.Unlock()
	p.abandon()
	require.Len(t, h.failed, sent)
	for _, err := range h.failed {
		require.ErrorIs(t, err, ErrClosed)
	}
	require.ErrorIs(t, p.SendAsync(t.Context(), Record{Topic: "many", Key: []byte("k")}, nil), ErrClosed)
}
