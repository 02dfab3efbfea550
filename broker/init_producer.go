package broker

import (
	"sync"
	"sync/atomic"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/wire"
)

// InitProducer, version 1: gives out a producer id. Without a name: a fresh id, from a
// block that the broker reserved durably. With a name: the id of that name,
// and an epoch above all before. When the answer is sent, no batch of an older
// epoch is accepted any more, on any partition. A producer that names the id and
// epoch which it holds is refused if they are not current: it has a successor.

// producerBlock is how many ids a broker reserves at a time. Those left of a
// block when the broker stops are never given out.
const producerBlock = 1000

// maxProducerName bounds the names of producers.
const maxProducerName = 255

func (h *handler) initProducer(r request) error {
	var req wire.InitProducerRequest
	if err := r.decode(&req); err != nil {
		return err
	}
	switch {
	case len(req.Name) > maxProducerName:
		r.fail(wire.Errorf(wire.CodeInvalidRequest, "the producer name has %d bytes, at most %d are allowed", len(req.Name), maxProducerName))
	case req.Name != "":
		h.initNamed(r, &req)
	default:
		h.initAnonymous(r)
	}
	return nil
}

func (h *handler) initAnonymous(r request) {
	if id, ok := h.producers.take(); ok {
		r.answer(&wire.InitProducerResponse{ProducerID: id})
		return
	}
	h.meta.Propose(consensus.ReserveProducers{Count: producerBlock}, func(result consensus.Result, err error) {
		if err == nil {
			err = result.Errors[0]
		}
		if err != nil {
			r.fail(err)
			return
		}
		h.producers.reserved(result.Producer.ID+1, result.Producer.ID+producerBlock)
		r.answer(&wire.InitProducerResponse{ProducerID: result.Producer.ID})
	})
}

func (h *handler) initNamed(r request, req *wire.InitProducerRequest) {
	command := consensus.InitProducer{Name: req.Name, ID: req.ProducerID, Epoch: req.Epoch}
	h.meta.Propose(command, func(result consensus.Result, err error) {
		if err == nil {
			err = result.Errors[0]
		}
		if err != nil {
			r.fail(err)
			return
		}
		p := result.Producer
		h.producers.raise(p.ID, p.Epoch)
		r.answer(&wire.InitProducerResponse{ProducerID: p.ID, Epoch: p.Epoch})
	})
}

// producers gives out ids and fences the producers that have a name.
type producers struct {
	limit atomic.Uint64 // ids from here on were never given out, as far as this broker knows
	// shared: other brokers give out ids too, of which this one hears late.
	shared bool
	named  *cowMap[uint64, *namedProducer]

	mu        sync.Mutex
	next, end uint64 // ids reserved and not given out
}

// A namedProducer knows the current epoch of a producer with a name. Appends hold
// mu for reading between the check of the epoch and the append, so that once
// the epoch was raised no older append can follow.
type namedProducer struct {
	mu    sync.RWMutex
	epoch uint32
}

func newProducers(m *consensus.Machine) *producers {
	p := &producers{named: newCowMap[uint64, *namedProducer](func(id uint64) uint8 { return uint8(id) })}
	p.limit.Store(m.NextProducer())
	for _, n := range m.Named() {
		p.named.store(n.ID, &namedProducer{epoch: n.Epoch})
	}
	return p
}

func (p *producers) take() (id uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == p.end {
		return 0, false
	}
	p.next++
	return p.next - 1, true
}

// reserved adds the ids from next to end-1. Those of an earlier block that were
// not given out yet are forgotten.
func (p *producers) reserved(next, end uint64) {
	p.known(end)
	p.mu.Lock()
	p.next, p.end = next, end
	p.mu.Unlock()
}

// known notes that ids below limit were given out.
func (p *producers) known(limit uint64) {
	for {
		old := p.limit.Load()
		if old >= limit || p.limit.CompareAndSwap(old, limit) {
			return
		}
	}
}

// raise fences every epoch of the producer below the given one.
func (p *producers) raise(id uint64, epoch uint32) {
	p.known(id + 1)
	n, ok := p.named.load(id)
	if !ok {
		p.named.store(id, &namedProducer{epoch: epoch})
		return
	}
	n.mu.Lock()
	n.epoch = max(n.epoch, epoch)
	n.mu.Unlock()
}

// admit checks a batch's producer. If it has a name, the lock that is returned
// is held for reading and must be released after the append.
func (p *producers) admit(id uint64, epoch uint32) (*sync.RWMutex, error) {
	if id == 0 {
		return nil, nil
	}
	if id >= p.limit.Load() && !p.shared {
		return nil, wire.Errorf(wire.CodeUnknownProducer, "producer id %d was never given out by this cluster: initialise the producer again", id)
	}
	n, ok := p.named.load(id)
	if !ok {
		return nil, nil
	}
	n.mu.RLock()
	if epoch < n.epoch {
		current := n.epoch
		n.mu.RUnlock()
		return nil, wire.Errorf(wire.CodeProducerFenced, "producer %d was started again elsewhere: epoch %d is now %d, stop this one", id, epoch, current)
	}
	return &n.mu, nil
}
