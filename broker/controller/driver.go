package controller

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/consensus/controller"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// RPC is the way to other brokers. Calls may be made concurrently.
type RPC interface {
	// Fence has the replicas of a broker adopt epochs, and brings their votes.
	Fence(ctx context.Context, node uint32, req *peer.FenceRequest) (*peer.FenceResponse, error)
	// Probe asks a broker, over a connection of its own, which life of its process
	// this is. The error wraps syscall.ECONNREFUSED if nobody listens there; every
	// other error tells nothing.
	Probe(ctx context.Context, node uint32) (session uint64, err error)
}

// Options configure a Driver.
type Options struct {
	Self       uint32 // this broker
	Metadata   consensus.Driver
	RPC        RPC
	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
	Settings   controller.Settings

	// FenceTimeout and ProbeTimeout bound one call (2 s, 500 ms).
	FenceTimeout, ProbeTimeout time.Duration
}

// Driver runs the controller. Its methods may be called concurrently.
type Driver struct {
	o       Options
	machine *controller.Controller // of the goroutine
	replies map[uint64]chan<- controller.Reply
	start   time.Time
	metrics *metrics

	mu     sync.Mutex
	queue  []event
	closed bool
	wake   chan struct{}

	lastReply atomic.Uint64
	ctx       context.Context
	cancel    context.CancelFunc
	calls     sync.WaitGroup
	ended     chan struct{}
}

// event is something that happened, told to the machine by its goroutine.
type event func(now time.Duration)

// New returns a driver whose broker does not lead Raft yet, and starts its goroutine.
func New(o Options) *Driver {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FenceTimeout == 0 {
		o.FenceTimeout = 2 * time.Second
	}
	if o.ProbeTimeout == 0 {
		o.ProbeTimeout = 500 * time.Millisecond
	}
	d := &Driver{
		o: o, machine: controller.New(o.Settings), replies: map[uint64]chan<- controller.Reply{}, start: time.Now(),
		metrics: newMetrics(o.Registerer), wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	go d.run()
	return d
}

// Close ends the goroutine and waits for it and for the calls under way. It comes
// after nobody calls the driver any more but the metadata.
func (d *Driver) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	<-d.ended
	d.calls.Wait()
	d.metrics.unregister()
}

// tell queues an event, and reports whether it will be told.
func (d *Driver) tell(e event) bool {
	d.mu.Lock()
	open := !d.closed
	if open {
		d.queue = append(d.queue, e)
	}
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default: // it will wake already
	}
	return open
}

func (d *Driver) take() []event {
	d.mu.Lock()
	defer d.mu.Unlock()
	queue := d.queue
	d.queue = nil
	return queue
}

func (d *Driver) run() {
	defer close(d.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if at, ok := d.machine.Next(); ok {
			timer.Reset(max(at-d.now(), time.Millisecond))
		} else {
			timer.Stop()
		}
		select {
		case <-d.wake:
		case <-timer.C:
		case <-d.ctx.Done():
			return
		}
		for _, e := range d.take() {
			e(d.now())
		}
		for _, e := range d.machine.Run(d.now()) {
			d.perform(e)
		}
		d.metrics.refresh(d.machine, d.now())
	}
}

// now is the machine's clock.
func (d *Driver) now() time.Duration { return time.Since(d.start) }

func (d *Driver) view(fn func(*consensus.Machine)) { d.o.Metadata.View(fn) }

// SetLeader tells whether this broker leads Raft, for which term. Its machine must have
// applied everything that was committed before.
func (d *Driver) SetLeader(leads bool, term uint64) {
	d.tell(func(now time.Duration) {
		if !leads {
			d.machine.Lost()
			return
		}
		d.view(func(m *consensus.Machine) { d.machine.Became(now, term, m) })
	})
}

// Changed tells what changed in the metadata. It does not block.
func (d *Driver) Changed(changes []consensus.Change) {
	d.tell(func(now time.Duration) {
		if d.machine.Active() {
			d.view(func(m *consensus.Machine) { d.machine.Sync(now, m, changes) })
		}
	})
}

// Disconnected tells that the connection broke by which a broker's heartbeats come.
func (d *Driver) Disconnected(node uint32) {
	d.tell(func(now time.Duration) { d.machine.Disconnected(now, node) })
}
