package sequitur

import "github.com/sequitur-mq/sequitur/wire"

// identityReady reports whether batches can be numbered. Lock held.
func (p *Producer) identityReady() bool {
	return p.opts.acks == AcksNone || p.identGen != 0 && !p.identWanted
}

// ensureIdentity asks the cluster for a producer id and epoch if one is needed.
//
// A named producer that goes on to a new epoch names the one it holds, and is refused
// if another producer took over since. Should the answer to that request be lost, the
// repetition is refused too, and the producer stops as if it were fenced: it cannot
// tell the difference, and stopping is the safe side.
func (p *Producer) ensureIdentity() error {
	p.identMu.Lock()
	defer p.identMu.Unlock()
	p.mu.Lock()
	ready, held := p.identityReady(), p.identGen != 0
	req := wire.InitProducerRequest{Name: p.opts.name}
	if held && p.opts.name != "" {
		req.ProducerID, req.Epoch = p.ident.id, p.ident.epoch
	}
	p.mu.Unlock()
	if ready {
		return nil
	}
	var resp wire.InitProducerResponse
	q := question{op: "init producer", kind: wire.KindInitProducer, limit: p.client.opts.requestTimeout, patience: mostPatience}
	if _, _, err := p.client.ask(p.ctx, q, &req, &resp); err != nil {
		if e := wireError("send", "", -1, err); e.Code == Code(wire.CodeProducerFenced.String()) {
			p.mu.Lock()
			p.failAll(e)
			p.unlock()
		}
		return err
	}
	p.mu.Lock()
	p.ident = identity{resp.ProducerID, resp.Epoch}
	p.identGen++
	p.identWanted = false
	for _, topic := range p.topics {
		for _, t := range topic.parts {
			if t == nil {
				continue
			}
			if t.gen != 0 {
				t.recovering = true // until the new identity is adopted
			}
			t.settle()
		}
	}
	p.unlock()
	return nil
}
