package sequitur

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// cutter is a TCP proxy that cuts connections after a random number of bytes, so many
// times in all.
type cutter struct {
	ln   net.Listener
	to   func() string
	cuts atomic.Int64
	most int64       // bytes before a cut
	drop atomic.Bool // what the broker answers
	wg   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	ended bool
}

func startCutter(t testing.TB, to func() string, cuts, most int64) *cutter {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cutter{ln: ln, to: to, most: most, conns: map[net.Conn]struct{}{}}
	c.cuts.Store(cuts)
	c.wg.Add(1)
	go c.accept()
	t.Cleanup(func() {
		ln.Close()
		c.mu.Lock()
		c.ended = true
		for nc := range c.conns {
			nc.Close()
		}
		c.mu.Unlock()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) addr() string { return c.ln.Addr().String() }

func (c *cutter) accept() {
	defer c.wg.Done()
	for {
		in, err := c.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.to())
		if err != nil {
			in.Close()
			continue
		}
		c.mu.Lock()
		c.conns[in], c.conns[out] = struct{}{}, struct{}{}
		if c.ended {
			in.Close()
			out.Close()
		}
		c.mu.Unlock()
		c.wg.Add(2)
		go c.pipe(in, out, out)
		go c.pipe(out, in, &dropper{c, in})
	}
}

// dropper swallows what is written while the proxy drops answers.
type dropper struct {
	c  *cutter
	to io.Writer
}

func (d *dropper) Write(b []byte) (int, error) {
	if d.c.drop.Load() {
		return len(b), nil
	}
	return d.to.Write(b)
}

// pipe copies until its random limit, then cuts both sides.
func (c *cutter) pipe(from, to net.Conn, w io.Writer) {
	defer c.wg.Done()
	defer from.Close()
	defer to.Close()
	limit := rand.Int64N(c.most)
	n, _ := io.Copy(w, io.LimitReader(from, limit))
	if n == limit && c.cuts.Add(-1) < 0 {
		_, _ = io.Copy(w, from)
	}
}

// history is what senders saw, to be compared with what is in the log.
type history struct {
	mu     sync.Mutex
	acked  map[string]Ack
	failed map[string]error
}

func newHistory() *history { return &history{acked: map[string]Ack{}, failed: map[string]error{}} }

func (h *history) outcome(value string) func(Ack, error) {
	return func(a Ack, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, twice := h.acked[value]; twice || h.failed[value] != nil {
			h.failed[value] = fmt.Errorf("%s: called back twice", value)
		} else if err != nil {
			h.failed[value] = err
		} else {
			h.acked[value] = a
		}
	}
}

// check compares the history with the log of every partition: acknowledged records are
// where they were said to be, nothing is there twice, what certainly failed is not
// there, and per partition each sender's records, named sender/number, are in order.
func (h *history) check(logs [][]string) error {
	seen := map[string]bool{}
	for partition, values := range logs {
		last := map[string]int{}
		for offset, v := range values {
			if seen[v] {
				return fmt.Errorf("partition %d offset %d: %s is there twice", partition, offset, v)
			}
			seen[v] = true
			sender, number, _ := strings.Cut(v, "/")
			var n int
			if _, err := fmt.Sscan(number, &n); err != nil {
				return fmt.Errorf("partition %d offset %d: %q was never sent", partition, offset, v)
			}
			if before, ok := last[sender]; ok && n <= before {
				return fmt.Errorf("partition %d offset %d: %s comes after %s/%d", partition, offset, v, sender, before)
			}
			last[sender] = n
		}
	}
	for v, a := range h.acked {
		if values := logs[a.Partition]; a.Offset >= int64(len(values)) || values[a.Offset] != v {
			return fmt.Errorf("%s was acknowledged at %d/%d and is not there", v, a.Partition, a.Offset)
		}
	}
	for v, err := range h.failed {
		var e *Error
		if !errors.As(err, &e) {
			return err
		}
		if !e.MaybeDone && seen[v] {
			return fmt.Errorf("%s is there though it certainly failed: %w", v, err)
		}
	}
	return nil
}

type retryCounter struct {
	NoHooks
	n atomic.Int64
}

func (r *retryCounter) ProduceRetried(string, int32, error) { r.n.Add(1) }

// storm has goroutines send records under trouble and checks what came of it.
func storm(t *testing.T, s *testServer, addr string, parts int, broken rules, opts ...ProducerOption) (*history, error) {
	const senders, each = 3, 2000
	s.create("storm", config(uint32(parts)))
	var retries retryCounter
	var c *Client
	for c == nil { // Connect tries once only
		c, _ = Connect(t.Context(), addr, WithRetryBackoff(time.Millisecond, 5*time.Millisecond), WithBreaker(5, 5*time.Millisecond), WithHooks(&retries))
	}
	defer c.Close()
	p := newProducer(t, c, append([]ProducerOption{WithBatchBytes(1 << 10)}, opts...)...)
	p.rules = broken
	h := newHistory()
	var wg sync.WaitGroup
	for g := range senders {
		wg.Go(func() {
			for i := range each {
				v := fmt.Sprintf("s%d/%d", g, i)
				r := Record{Topic: "storm", Key: []byte{byte(rand.IntN(200))}, Value: []byte(v)}
				if err := p.SendAsync(t.Context(), r, h.outcome(v)); err != nil {
					h.outcome(v)(Ack{}, err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, p.Close(t.Context()))
	require.NoError(t, c.Close())
	require.Len(t, h.acked, senders*each-len(h.failed))
	require.NotZero(t, retries.n.Load(), "there was no trouble")
	var logs [][]string
	for i := range parts {
		logs = append(logs, s.log("storm", i))
	}
	return h, h.check(logs)
}

const (
	few  = 3
	many = stageFrom // records are staged
)

func TestOrderUnderCuts(t *testing.T) {
	for _, x := range []struct {
		parts int
		codec Codec
	}{{few, CodecNone}, {few, CodecZstd}, {many, CodecNone}} {
		t.Run(fmt.Sprintf("%d partitions, %v", x.parts, x.codec), func(t *testing.T) {
			s := startServer(t)
			proxy := startCutter(t, s.addr, 60, 20_000)
			s.advertise = proxy.addr()
			h, err := storm(t, s, proxy.addr(), x.parts, rules{}, WithCompression(x.codec))
			require.NoError(t, err)
			require.Empty(t, h.failed)
		})
	}
}

// refusals answers some batches with trouble, before or after they were appended.
func refusals(s *testServer) {
	before := []wire.Code{wire.CodeOverloaded, wire.CodeStorageFull, wire.CodeNotLeader, wire.CodeShuttingDown}
	left := 150
	s.onProduce = func(string, uint32, record.Batch) wire.Code {
		if left == 0 || rand.IntN(4) > 0 {
			return wire.CodeNone
		}
		left--
		return before[rand.IntN(len(before))]
	}
	s.afterProduce = func(code wire.Code) wire.Code {
		if left == 0 || rand.IntN(8) > 0 || code != wire.CodeNone {
			return code
		}
		left--
		return wire.CodeTimeout
	}
}

func TestOrderUnderRefusals(t *testing.T) {
	for _, parts := range []int{few, many} {
		s := startServer(t)
		refusals(s)
		h, err := storm(t, s, s.addr(), parts, rules{})
		require.NoError(t, err)
		require.Empty(t, h.failed)
	}
}

func TestOrderUnderCutsRefusalsAndTimeouts(t *testing.T) {
	for _, parts := range []int{few, many} {
		s := startServer(t)
		refusals(s)
		proxy := startCutter(t, s.addr, 60, 20_000)
		s.advertise = proxy.addr()
		_, err := storm(t, s, proxy.addr(), parts, rules{}, WithDeliveryTimeout(30*time.Millisecond))
		require.NoError(t, err)
	}
}

// The checker notices each broken rule.

func TestTeethRenumberedRetries(t *testing.T) {
	s := startServer(t)
	refusals(s)
	_, err := storm(t, s, s.addr(), few, rules{renumberRetries: true})
	require.Error(t, err)
}

// Unless the first batch goes alone, a broker that refuses it and does not know the
// producer yet takes the second; then the first one's place is gone.
func TestTeethPipelineUnproven(t *testing.T) {
	s := startServer(t)
	send := func(topic string, broken rules, inFlight int) int {
		s.create(topic, config(1))
		refused := false
		s.set(func() {
			s.hang = func(k wire.Kind) bool { return k == wire.KindProduce }
			s.onProduce = func(string, uint32, record.Batch) wire.Code {
				if refused {
					return wire.CodeNone
				}
				refused = true
				return wire.CodeOverloaded
			}
		})
		c := connect(t, s.addr(), WithRetryBackoff(time.Millisecond, 5*time.Millisecond))
		p := newProducer(t, c, WithBatchBytes(1<<10))
		p.rules = broken
		h := newHistory()
		for i := range 1000 { // many full batches
			v := fmt.Sprintf("s/%d", i)
			require.NoError(t, p.SendAsync(t.Context(), Record{Topic: topic, Value: []byte(v)}, h.outcome(v)))
		}
		s.waitFor(func() bool { return len(s.held) >= inFlight })
		s.serveHeld()
		require.NoError(t, p.Close(t.Context()))
		require.NoError(t, h.check([][]string{s.log(topic, 0)}))
		return len(h.failed)
	}
	require.Zero(t, send("whole", rules{}, 1))
	require.NotZero(t, send("broken", rules{pipelineUnproven: true}, 2), "the first batch must be overtaken")
}

// The answer to one batch is lost again and again while later ones are acknowledged: it
// must not fall out of what the broker remembers.
func TestOldestBatchStaysWithinTheBrokersMemory(t *testing.T) {
	for _, broken := range []rules{{}, {countInFlightOnly: true}} {
		s := startServer(t)
		s.create("storm", config(1))
		c := connect(t, s.addr(), WithRetryBackoff(time.Millisecond, 2*time.Millisecond))
		p := newProducer(t, c, WithBatchBytes(1<<10))
		p.rules = broken
		h := newHistory()
		send := func(i int) {
			v := fmt.Sprintf("s/%d", i)
			require.NoError(t, p.SendAsync(t.Context(), Record{Topic: "storm", Value: []byte(v)}, h.outcome(v)))
		}
		send(0)
		require.NoError(t, p.Flush(t.Context()))
		lost, most, unlucky := 0, 100, uint32(0)
		if broken.countInFlightOnly {
			most = math.MaxInt // until it is forgotten
		}
		s.set(func() {
			s.onProduce = func(_ string, _ uint32, b record.Batch) wire.Code {
				unlucky = b.BaseSequence()
				return wire.CodeNone
			}
			s.afterProduce = func(code wire.Code) wire.Code {
				if unlucky == 1 && lost < most && code == wire.CodeNone {
					lost++
					return wire.CodeTimeout
				}
				return code
			}
		})
		for i := range 10_000 {
			send(i + 1)
		}
		require.NoError(t, p.Close(t.Context()))
		require.NoError(t, h.check([][]string{s.log("storm", 0)}))
		if broken.countInFlightOnly {
			require.NotEmpty(t, h.failed, "the test must see the batch forgotten")
			continue
		}
		require.Empty(t, h.failed)
		require.Equal(t, most, lost)
	}
}

func TestUnknownOutcome(t *testing.T) {
	for _, broken := range []rules{{}, {keepEpoch: true}} {
		s := startServer(t)
		s.create("storm", config(1))
		c := connect(t, s.addr(), WithRetryBackoff(time.Millisecond, 5*time.Millisecond))
		p := newProducer(t, c)
		p.rules = broken
		h := newHistory()
		send := func(v string) error {
			ack, err := p.Send(t.Context(), Record{Topic: "storm", Value: []byte(v)})
			h.outcome(v)(ack, err)
			return err
		}
		require.NoError(t, send("s/0"))
		s.set(func() { s.mute = true })
		timedOut := make(chan error)
		go func() { timedOut <- send("s/1") }()
		s.waitFor(func() bool { return s.topics["storm"].parts[0].end == 2 }) // never answered
		p.endDelivery()
		err := <-timedOut
		require.ErrorIs(t, err, ErrTimeout)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.True(t, e.MaybeDone)
		require.True(t, e.Retriable)
		s.set(func() { s.mute = false })
		c.dropSilent()
		require.NoError(t, send("s/2"))
		err = h.check([][]string{s.log("storm", 0)})
		if broken.keepEpoch {
			require.ErrorContains(t, err, "was acknowledged", "the checker must see the lost record")
		} else {
			require.NoError(t, err)
		}
		p.abandon()
	}
}

// A batch that is still on its way when its delivery timeout ends must not come after
// later records.
func TestLateBatchIsFenced(t *testing.T) {
	for _, name := range []string{"", "billing"} {
		s := startServer(t)
		s.create("storm", config(1))
		var opts []ProducerOption
		if name != "" {
			opts = append(opts, WithName(name))
		}
		c := connect(t, s.addr(), WithRetryBackoff(time.Millisecond, 5*time.Millisecond))
		p := newProducer(t, c, opts...)
		send := func(v string) error {
			_, err := p.Send(t.Context(), Record{Topic: "storm", Value: []byte(v)})
			return err
		}
		require.NoError(t, send("s/0"))
		s.set(func() { s.hang = func(k wire.Kind) bool { return k == wire.KindProduce } })
		timedOut := make(chan error)
		go func() { timedOut <- send("s/1") }()
		s.waitFor(func() bool { return len(s.held) == 1 })
		p.endDelivery()
		require.ErrorIs(t, <-timedOut, ErrTimeout)
		var late []func()
		s.set(func() { late, s.held, s.hang = s.held, nil, nil })
		c.dropSilent()
		require.NoError(t, send("s/2"))
		for _, serve := range late {
			serve()
		}
		require.Equal(t, []string{"s/0", "s/2"}, s.log("storm", 0))
		require.NoError(t, p.Close(t.Context()))
	}
}

func TestCheckerSeesLossDuplicatesAndReordering(t *testing.T) {
	h := newHistory()
	h.acked["a/1"] = Ack{Offset: 0}
	h.acked["a/2"] = Ack{Offset: 1}
	h.failed["a/3"] = &Error{}
	require.NoError(t, h.check([][]string{{"a/1", "a/2"}}))
	for _, bad := range [][]string{{"a/1"}, {"a/2", "a/1"}, {"a/1", "a/2", "a/1"}, {"a/1", "a/2", "a/3"}, {"x", "a/1"}} {
		require.Error(t, h.check([][]string{slices.Clone(bad)}))
	}
}
