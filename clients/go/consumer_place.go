package sequitur

import (
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

const (
	// shunFor is how long a replica that did not serve a partition is passed over.
	shunFor = 10 * time.Second
	// lagFor is how long a replica may lack what is to be read until the leader is asked.
	lagFor = time.Second
	// rangeDoubt is how long a replicated partition's leader must insist on a position
	// being beyond the end until it is believed: one that was deposed and does not know
	// it yet lacks the latest records.
	rangeDoubt = 2 * time.Second
)

// flags are those of all fetches.
func (k *Consumer) flags() uint8 {
	if k.opts.readFrom == ReadNearest {
		return wire.FetchFromFollower
	}
	return 0
}

// place gives a partition to the fetcher of the replica to read from. Lock held.
//
// What was asked of the replica before becomes void, what it brought before stays: the
// next request begins where that ends. So no record is missed or repeated.
func (k *Consumer) place(p *consumed) {
	news := p.epoch != p.topic.parts[p.index].Epoch
	p.epoch = p.topic.parts[p.index].Epoch
	leader := k.client.leader(p.topic, p.index)
	n := leader
	if k.opts.readFrom == ReadNearest && p.leadOnly == 0 {
		n = k.client.nearest(p.topic, p.index)
	}
	if n == nil {
		k.leave(p)
		k.hunt(p, 0)
		return
	}
	p.follower = n != leader
	f := k.fetchers[n]
	if f == nil {
		f = &fetcher{k: k, node: n, kick: make(chan struct{}, 1), revived: make(chan struct{}, 1), retry: k.client.newRetrier()}
		k.fetchers[n] = f
		k.wg.Add(1)
		go f.run()
	}
	if f.down && (news || p.fetcher != f) {
		f.revive()
	}
	if p.fetcher == f {
		f.kickOff()
		return
	}
	k.leave(p)
	p.fetcher = f
	p.ready = 0
	f.parts = append(f.parts, p)
	f.hurry = true
	f.kickOff()
}

// leave takes a partition from its fetcher, if it has one. Lock held.
func (k *Consumer) leave(p *consumed) {
	old := p.fetcher
	if old == nil {
		return
	}
	for i, other := range old.parts {
		if other == p {
			old.parts = append(old.parts[:i:i], old.parts[i+1:]...)
			break
		}
	}
	p.fetcher = nil
	p.ask++
	p.inFetch = false
}

// revive has the fetcher try again now: its broker leads anew.
func (f *fetcher) revive() {
	f.node.revive()
	select {
	case f.revived <- struct{}{}:
	default:
	}
}

// hunt holds a partition until its topic's metadata are fresh. They are asked for after
// a while that grows with each failure, and not before a time the broker asked for. Lock
// held.
func (k *Consumer) hunt(p *consumed, after time.Duration) {
	p.moved, p.huntAt = true, k.client.now()+int64(p.hunt.failed(after))
	k.wantMetadata(p, p.huntAt)
}

// wantMetadata asks for a topic's metadata at a time of the client's clock. Lock held.
func (k *Consumer) wantMetadata(p *consumed, at int64) {
	var avoid *node
	if p.fetcher != nil {
		avoid = p.fetcher.node
	}
	k.client.scout.want(k, p.name, at, avoid)
}

// shun has a partition read from its leader for some time. Lock held.
func (k *Consumer) shun(p *consumed) {
	p.leadOnly = k.client.now() + int64(shunFor)
	p.doubtful = 0
	k.place(p)
}

// bringHome has partitions that were read from their leader for long enough read from
// the nearest replica again. Lock held.
func (f *fetcher) bringHome() {
	now := f.k.client.now()
	for i := len(f.parts) - 1; i >= 0; i-- {
		if p := f.parts[i]; p.leadOnly != 0 && now > p.leadOnly {
			p.leadOnly = 0
			f.k.place(p)
		}
	}
}

// learned implements user.
func (k *Consumer) learned(name string, info *topicInfo, err *Error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.client.now()
	for _, p := range k.parts {
		if p.name != name || p.failed != nil || !k.started || k.ctx.Err() != nil {
			continue
		}
		if err == nil && info.uuid != p.topic.uuid {
			err = replaced("fetch", name, "make a new consumer")
		}
		switch {
		case err != nil && !err.Retriable:
			p.moved = false
			k.end(p, p.gen, err)
		case err != nil && p.moved:
			k.lastErr = err
			k.hunt(p, 0)
		case err != nil && p.fetcher.down:
			k.wantMetadata(p, now+int64(p.hunt.failed(0)))
		case err == nil:
			p.topic = info
			k.reconsider(p, now)
		}
	}
}

// reconsider follows the leader that fresh metadata name, or keeps looking for it. Lock
// held.
func (k *Consumer) reconsider(p *consumed, now int64) {
	lead := &p.topic.parts[p.index]
	switch {
	case lead.Epoch != p.epoch, lead.Leader != 0 && p.fetcher == nil:
		p.hunt.succeeded()
		p.moved = false
		k.place(p)
	case p.moved && now >= p.huntAt:
		p.moved = false
		k.place(p)
	case p.moved:
		k.wantMetadata(p, p.huntAt)
	case p.fetcher.down:
		k.wantMetadata(p, now+int64(p.hunt.failed(0)))
	}
}

// suspect implements user.
func (k *Consumer) suspect(n *node) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.fetchers[n]
	if f == nil || f.underWay == 0 {
		return
	}
	for _, p := range append([]*consumed(nil), f.parts...) {
		switch {
		case !p.inFetch:
		case p.follower:
			k.shun(p)
		default:
			k.wantMetadata(p, k.client.now())
		}
	}
}

// lookAround has the metadata refreshed in case connecting takes long.
func (f *fetcher) lookAround() {
	k := f.k
	if !k.client.mayAskOthers(f.node) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	f.down = true
	for _, p := range f.parts {
		k.wantMetadata(p, k.client.now()+int64(suspectAfter))
	}
}
