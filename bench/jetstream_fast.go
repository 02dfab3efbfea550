package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// JetStream's fast batch protocol (nats-server 2.14 and later, stream option allow_batched), which nats.go 1.55 has no
// call for: every message of a batch names its place in its reply subject,
//
//	<inbox>.<batch id>.<ack every N at most>.<gap mode>.<sequence>.<operation>.$FI
//
// and the server answers with one flow message per N stored messages: {"type":"ack","seq":S,"msgs":N}. A batch may stay
// open for as long as messages arrive; it ends with operation "commit, end of batch" and one publish ack.
const (
	fastFlow     = 500 // the server's own maximum of messages per ack
	fastGapFail  = ".fail."
	fastStart    = ".0.$FI"
	fastAppend   = ".1.$FI"
	fastEndBatch = ".3.$FI"
)

// fastPublisher is one open fast batch per stream.
type fastPublisher struct {
	nc      *nats.Conn
	batches []*fastBatch
}

func newFastPublisher(_ context.Context, nc *nats.Conn, subjects []string, inFlight int) (*fastPublisher, error) {
	p := &fastPublisher{nc: nc}
	for _, subject := range subjects {
		// The server acknowledges every N stored messages, so a window below 2N would stop and go.
		b := &fastBatch{nc: nc, subject: subject, window: uint64(max(inFlight, 2*fastFlow))}
		b.moved = sync.NewCond(&b.mu)
		b.open()
		sub, err := nc.Subscribe(b.inbox+".>", b.onReply)
		if err != nil {
			nc.Close()
			return nil, fmt.Errorf("subscribe to fast batch replies: %w", err)
		}
		// The flow of answers is bounded by the window.
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			nc.Close()
			return nil, fmt.Errorf("lift limits of fast batch replies: %w", err)
		}
		p.batches = append(p.batches, b)
	}
	return p, nil
}

func (p *fastPublisher) Send(ctx context.Context, r Outgoing) error {
	if err := p.SendAsync(ctx, r, nil); err != nil {
		return err
	}
	return p.Flush(ctx)
}

func (p *fastPublisher) SendAsync(ctx context.Context, r Outgoing, probe *Probe) error {
	return p.batches[spread(r.Key, len(p.batches))].add(ctx, r.Value, probe)
}

func (p *fastPublisher) Flush(ctx context.Context) error {
	var errs []error
	for _, b := range p.batches {
		errs = append(errs, b.commit(ctx))
	}
	return errors.Join(errs...)
}

func (p *fastPublisher) Close(context.Context) error {
	p.nc.Close()
	return nil
}

// fastBatch is the client's half of one batch.
type fastBatch struct {
	nc      *nats.Conn
	subject string
	window  uint64
	inbox   string
	reply   []byte // scratch
	prefix  int    // bytes of reply that stay the same in a batch

	mu     sync.Mutex
	moved  *sync.Cond
	seq    uint64 // last sent
	acked  uint64 // last known stored
	done   bool   // the publish ack has arrived
	failed error
	probes []fastProbe // ascending by sequence
}

type fastProbe struct {
	seq   uint64
	probe *Probe
}

// open starts a new batch id.
func (b *fastBatch) open() {
	if b.inbox == "" {
		b.inbox = nats.NewInbox()
	}
	b.reply = append(b.reply[:0], b.inbox...)
	b.reply = append(b.reply, '.')
	b.reply = append(b.reply, nuid.Next()...)
	b.reply = append(b.reply, '.')
	b.reply = strconv.AppendInt(b.reply, fastFlow, 10)
	b.reply = append(b.reply, fastGapFail...)
	b.prefix = len(b.reply)
	b.seq, b.acked, b.done = 0, 0, false
}

// add sends one message once the window has room for it.
func (b *fastBatch) add(ctx context.Context, value []byte, probe *Probe) error {
	b.mu.Lock()
	if err := b.wait(ctx, func() bool { return b.seq-b.acked < b.window }); err != nil {
		b.mu.Unlock()
		return err
	}
	b.seq++
	seq := b.seq
	if probe != nil {
		b.probes = append(b.probes, fastProbe{seq, probe})
	}
	b.mu.Unlock()
	operation := fastAppend
	if seq == 1 {
		operation = fastStart
	}
	return b.send(seq, operation, value)
}

func (b *fastBatch) send(seq uint64, operation string, value []byte) error {
	b.reply = strconv.AppendUint(b.reply[:b.prefix], seq, 10)
	b.reply = append(b.reply, operation...)
	return b.nc.PublishRequest(b.subject, string(b.reply), value)
}

// wait blocks until ready or failed; the lock is held by the caller.
func (b *fastBatch) wait(ctx context.Context, ready func() bool) error {
	if b.failed != nil || ready() {
		return b.failed
	}
	stop := context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.moved.Broadcast()
	})
	defer stop()
	for b.failed == nil && !ready() {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for JetStream fast batch (%d sent, %d stored): %w", b.seq, b.acked, err)
		}
		b.moved.Wait()
	}
	return b.failed
}

// commit ends the batch, waits for its publish ack and opens the next.
func (b *fastBatch) commit(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seq == 0 {
		return b.failed
	}
	sent := b.seq
	b.mu.Unlock()
	err := b.send(sent+1, fastEndBatch, nil)
	b.mu.Lock()
	if err != nil {
		return err
	}
	if err := b.wait(ctx, func() bool { return b.done }); err != nil {
		return err
	}
	if b.acked != sent {
		return fmt.Errorf("JetStream stored %d of %d messages of a fast batch", b.acked, sent)
	}
	b.open()
	return nil
}

// onReply takes flow messages and the publish ack.
func (b *fastBatch) onReply(m *nats.Msg) {
	var reply struct {
		Type  string          `json:"type"`
		Seq   uint64          `json:"seq"`
		Count uint64          `json:"count"`
		Batch string          `json:"batch"`
		Error json.RawMessage `json:"error"`
	}
	err := json.Unmarshal(m.Data, &reply)
	b.mu.Lock()
	switch {
	case err != nil:
		b.failed = fmt.Errorf("JetStream fast batch answered %q: %w", m.Data, err)
	case len(reply.Error) > 0 || reply.Type == "gap":
		b.failed = fmt.Errorf("JetStream fast batch: %s", m.Data)
	case reply.Type == "ack":
		b.acked = max(b.acked, reply.Seq)
	case reply.Batch != "":
		b.acked, b.done = reply.Count, true
	}
	stored := b.takeProbes()
	err = b.failed
	b.moved.Broadcast()
	b.mu.Unlock()
	for _, probe := range stored {
		probe.Done(err)
	}
}

// takeProbes returns the probes of stored messages, or all after a failure; the lock is held by the caller.
func (b *fastBatch) takeProbes() []*Probe {
	n := 0
	for n < len(b.probes) && (b.failed != nil || b.probes[n].seq <= b.acked) {
		n++
	}
	if n == 0 {
		return nil
	}
	out := make([]*Probe, n)
	for i := range out {
		out[i] = b.probes[i].probe
	}
	b.probes = append(b.probes[:0], b.probes[n:]...)
	return out
}
