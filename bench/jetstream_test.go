package bench

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// The client's half of the fast batch protocol, fed with answers as the server gives them. The whole of it runs against
// a real server by `bench compare` (docs/benchmarks.md).
func newTestBatch(window uint64) *fastBatch {
	b := &fastBatch{subject: "s", window: window}
	b.moved = sync.NewCond(&b.mu)
	b.open()
	return b
}

func reply(data string) *nats.Msg { return &nats.Msg{Data: []byte(data)} }

func TestFastBatchAcknowledgesInOrder(t *testing.T) {
	b := newTestBatch(1000)
	var done []uint64
	for seq := uint64(1); seq <= 3; seq++ {
		b.seq = seq
		b.probes = append(b.probes, fastProbe{seq, &Probe{into: NewHistogram(), onDone: func(_ *Probe, err error) {
			require.NoError(t, err)
			done = append(done, seq)
		}}})
	}
	b.onReply(reply(`{"type":"ack","seq":0,"msgs":500}`))
	require.Empty(t, done)
	b.onReply(reply(`{"type":"ack","seq":2,"msgs":500}`))
	require.Equal(t, []uint64{1, 2}, done)
	b.onReply(reply(`{"stream":"S","seq":77,"batch":"id","count":3}`))
	require.Equal(t, []uint64{1, 2, 3}, done)
	require.True(t, b.done)
	require.NoError(t, b.failed)
}

func TestFastBatchFails(t *testing.T) {
	for _, answer := range []string{
		`{"type":"gap","last_seq":3,"seq":5}`,
		`{"type":"err","seq":5,"error":{"code":400}}`,
		`{"error":{"code":400,"description":"batch publish is disabled"}}`,
		`not json`,
	} {
		b := newTestBatch(1000)
		var failed error
		b.probes = []fastProbe{{1, &Probe{onDone: func(_ *Probe, err error) { failed = err }}}}
		b.onReply(reply(answer))
		require.Error(t, failed, answer)
		require.Equal(t, failed, b.wait(t.Context(), func() bool { return true }))
	}
}

func TestFastBatchWindowWaitsAndEnds(t *testing.T) {
	b := newTestBatch(2)
	b.seq = 2
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.add(ctx, []byte("x"), nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestSyncModeFromMonitoring(t *testing.T) {
	answers := map[string]string{
		`{"config":{"sync_interval":120000000000}}`: "lazy",
		`{"config":{"sync_always":true}}`:           "always",
	}
	for body, want := range answers {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			require.Equal(t, "/jsz?config=1", r.URL.String())
			_, _ = w.Write([]byte(body))
		}))
		mode, err := monitoredSync(t.Context(), server.URL)
		server.Close()
		require.NoError(t, err)
		require.Equal(t, want, mode)
	}
}

func TestJetStreamDurabilityIsHonest(t *testing.T) {
	s := &jetStreamSystem{sync: "unknown", evident: "not told"}
	require.Contains(t, s.Durability(StreamSpec{}), "unknown")
	s = &jetStreamSystem{sync: "lazy", evident: "as told"}
	require.Contains(t, s.Durability(StreamSpec{}), "before any fsync")
	require.Contains(t, s.Durability(StreamSpec{}), "as told")
}
