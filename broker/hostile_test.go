package broker

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

// FuzzConnection feeds a connection, from its hello on, with arbitrary bytes.
// Whatever they are, the broker goes on serving, and holds no memory for them
// once the connection has ended.
func FuzzConnection(f *testing.F) {
	hello := wire.AppendFrame(nil, wire.FrameHeader{Kind: wire.KindHello, Version: 1}, helloRequest(), 0)
	f.Add([]byte(nil), false)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), false)
	f.Add(hello, false)
	batch := anonymous().batch(f, "value")
	for _, info := range wire.Kinds() {
		m := info.NewRequest()
		var batches []byte
		switch req := m.(type) {
		case *wire.HelloRequest:
			*req = *helloRequest()
		case *wire.MetadataRequest:
			req.Topics = []string{"t"}
		case *wire.ProduceRequest:
			*req, batches = *produceRequestFor(wire.UUID{1}, 0, batch), batch
		case *wire.FetchRequest:
			*req = *fetchRequestFor(wire.UUID{1}, 0, 0, time.Millisecond)
		case *wire.CreateTopicsRequest:
			req.Topics = []wire.NewTopic{{Name: "t"}}
		case *wire.DeleteTopicsRequest:
			req.Topics = []string{"t", "u"}
		case *wire.InitProducerRequest:
			req.Name = "p"
		}
		frame := wire.AppendFrame(nil, wire.FrameHeader{Kind: info.Kind, Version: 1, Correlation: 7}, m, len(batches))
		f.Add(append(frame, batches...), true)
	}
	b := startBroker(f, func(c *Config) { c.MaxFrameBytes, c.MemoryBytes = 1<<20, 4<<20 })
	f.Fuzz(func(t *testing.T, data []byte, greeted bool) {
		nc, err := net.Dial("tcp", b.Addr())
		require.NoError(t, err)
		defer nc.Close()
		require.NoError(t, nc.SetDeadline(time.Now().Add(patience)))
		if greeted {
			data = append(append([]byte{}, hello...), data...)
		}
		_, _ = nc.Write(data) // the broker may close in the middle
		_ = nc.(*net.TCPConn).CloseWrite()
		answers, _ := io.ReadAll(io.LimitReader(nc, 64<<20))
		checkFrames(t, answers)
	})
	until(f, "no memory is held", func() bool {
		return b.server.budget.stats().used == 0 && b.handler.fetchBudget.stats().used == 0
	})
}

// checkFrames checks that what the broker sent is whole response frames, the last
// one perhaps cut off by a reset.
func checkFrames(t *testing.T, stream []byte) {
	kinds := map[wire.Kind]wire.KindInfo{}
	for _, k := range wire.Kinds() {
		kinds[k.Kind] = k
	}
	for len(stream) >= wire.FrameHeaderSize {
		h, err := wire.ParseFrameHeader(stream, wire.FrameLimits{})
		require.NoError(t, err)
		require.True(t, h.Response())
		if len(stream) < wire.FrameHeaderSize+h.BodyLength() {
			return
		}
		m := wire.Message(new(statusOnly))
		if info, ok := kinds[h.Kind]; ok {
			m = info.NewResponse()
		}
		require.NoError(t, m.Decode(stream[wire.FrameHeaderSize:][:h.MetadataLength]))
		stream = stream[wire.FrameHeaderSize+h.BodyLength():]
	}
}

// attack opens connections that send garbage of several kinds until stopped.
func attack(b *Broker, seed uint64, stop <-chan struct{}) {
	rng := rand.New(rand.NewPCG(seed, 1))
	hello := wire.AppendFrame(nil, wire.FrameHeader{Kind: wire.KindHello, Version: 1}, helloRequest(), 0)
	for {
		select {
		case <-stop:
			return
		default:
		}
		nc, err := net.Dial("tcp", b.Addr())
		if err != nil {
			continue
		}
		_ = nc.SetDeadline(time.Now().Add(50 * time.Millisecond))
		garbage := make([]byte, rng.IntN(4096))
		for i := range garbage {
			garbage[i] = byte(rng.Uint32())
		}
		var data []byte
		switch rng.IntN(5) {
		case 0: // pure garbage
			data = garbage
		case 1: // garbage after a hello
			data = append(bytes.Clone(hello), garbage...)
		case 2: // a huge frame that does not come
			data = wire.AppendFrameHeader(bytes.Clone(hello), wire.FrameHeader{Length: uint32(b.cfg.MaxFrameBytes), Kind: wire.KindProduce, Version: 1, MetadataLength: 100})
		case 3: // a plausible frame with a garbage body
			data = wire.AppendFrameHeader(bytes.Clone(hello), wire.FrameHeader{
				Length: uint32(12 + len(garbage)), Kind: wire.Kind(1 + rng.IntN(12)), Version: 1, MetadataLength: uint32(rng.IntN(len(garbage) + 1)),
			})
			data = append(data, garbage...)
		case 4: // counts that promise more than there is
			body := binary.AppendUvarint(make([]byte, 5), rng.Uint64())
			data = wire.AppendFrameHeader(bytes.Clone(hello), wire.FrameHeader{
				Length: uint32(12 + len(body)), Kind: wire.Kind(1 + rng.IntN(12)), Version: 1, MetadataLength: uint32(len(body)),
			})
			data = append(data, body...)
		}
		_, _ = nc.Write(data)
		_, _ = io.Copy(io.Discard, nc)
		nc.Close()
	}
}

// Under attack a well-behaved client is served, and memory does not grow.
func TestHostileClients(t *testing.T) {
	b := startBroker(t, func(c *Config) { c.MaxFrameBytes, c.MemoryBytes = 4<<20, 16<<20 })
	c := connect(t, b)
	id := c.create("t", 1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { attack(b, uint64(i), stop) })
	}
	var before, after runtime.MemStats
	for i := range 500 {
		require.EqualValues(t, i, c.mustProduce(id, 0, "x"))
		if i == 100 {
			runtime.GC()
			runtime.ReadMemStats(&before)
		}
	}
	_, got := c.fetch(id, 0, 499)
	require.Equal(t, []string{"499:x"}, got)
	close(stop)
	wg.Wait()
	until(t, "only the good client is left, and nothing is held", func() bool {
		return b.server.connections() == 1 && b.server.budget.stats().used == 0
	})
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, after.HeapAlloc, before.HeapAlloc+32<<20)
	require.Positive(t, b.Snapshot().Errors["INVALID_REQUEST"])
}
