package session

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

// client is the follower's side of one session.
type client struct {
	link *link
	conn net.Conn
	in   *frames

	received atomic.Uint64 // bytes of batches done with

	mu      sync.Mutex
	delayed []*part // to be looked at again with the next tick

	// The writer's, used again for each frame.
	progress peer.Progress
	buf      []byte
	list     []*part
}

// run greets, reads and writes until the connection ends.
func (c *client) run() error {
	if err := c.hello(); err != nil {
		return err
	}
	c.link.all()
	done := make(chan struct{})
	var writing sync.WaitGroup
	var failure error
	writing.Go(func() {
		failure = c.write(done)
		c.conn.Close()
	})
	err := c.read()
	close(done)
	c.conn.Close()
	writing.Wait()
	return errors.Join(ended(err), ended(failure))
}

func (c *client) hello() error {
	o := &c.link.manager.options
	if err := c.conn.SetDeadline(time.Now().Add(o.Handshake)); err != nil {
		return err
	}
	hello := peer.SessionHello{
		MinVersion: peer.MinVersion, MaxVersion: peer.MaxVersion, Cluster: o.Cluster,
		From: toPeer(o.Self), To: toPeer(c.link.leader), Session: o.Nonce,
	}
	if err := send(c.conn, peer.KindSessionHello, 0, &hello); err != nil {
		return err
	}
	var welcome peer.SessionWelcome
	c.in.checked = time.Now()
	if err := c.in.message(peer.KindSessionHello, &welcome); err != nil {
		return fmt.Errorf("wait for the welcome: %w", err)
	}
	if err := welcome.Err(); err != nil {
		return err
	}
	if from := fromPeer(welcome.From); from != c.link.leader {
		return wire.Errorf(wire.CodeNotLeader, "reached %v", from)
	}
	c.in.checked = time.Time{}
	return c.conn.SetDeadline(time.Time{})
}

// read takes in what is pushed.
func (c *client) read() error {
	for {
		head, err := c.in.next()
		if err != nil {
			return err
		}
		if head.Kind != peer.KindPush {
			return wire.Errorf(wire.CodeInvalidRequest, "%s where a push is due", peer.KindName(head.Kind))
		}
		f := c.link.manager.pools.take(head.BodyLength())
		if err = c.in.body(f.buf); err == nil {
			err = c.take(f, int(head.MetadataLength))
		}
		f.unref()
		if err != nil {
			return err
		}
	}
}

// take hands out a frame's entries.
func (c *client) take(f *frame, metadata int) error {
	if err := c.in.decode(f.buf[:metadata], &f.push); err != nil {
		return err
	}
	batches := f.buf[metadata:]
	f.slots = resize(f.slots, len(f.push.Entries))
	for i := range f.push.Entries {
		e := &f.push.Entries[i]
		if uint64(e.Bytes) > uint64(len(batches)) {
			return wire.Errorf(wire.CodeInvalidRequest, "push of %d bytes where %d are left", e.Bytes, len(batches))
		}
		p := c.link.find(e.Handle)
		counter := p.current(c, e.Seek)
		if counter == nil {
			c.received.Add(uint64(e.Bytes)) // it was on its way when the mind was changed
		} else {
			f.slots[i] = slot{frame: f, part: p, client: c, counter: counter, bytes: e.Bytes}
			if err := c.entry(p, e, batches[:e.Bytes:e.Bytes], &f.slots[i]); err != nil {
				return fmt.Errorf("partition %d of topic %v: %w", p.key.Partition, wire.UUID(p.key.Topic), err)
			}
		}
		batches = batches[e.Bytes:]
	}
	if len(batches) > 0 {
		return wire.Errorf(wire.CodeInvalidRequest, "push with %d bytes too many", len(batches))
	}
	return nil
}

// current returns where to count the bytes of a seek, nil if it is over or of another
// session.
func (p *part) current(c *client, seek uint32) *atomic.Uint64 {
	if p == nil || p.gone.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != c || p.seek != seek || p.again {
		return nil
	}
	return p.received
}

// entry carries out one entry of the standing fetch. The error ends the session.
func (c *client) entry(p *part, e *peer.PushEntry, batches []byte, s *slot) error {
	var err error
	switch e.Kind {
	case peer.PushData:
		return c.data(p, e, batches, s)
	case peer.PushTruncate:
		err = p.replica.Truncate(e.Epoch, e.CommonEpoch, e.End)
	case peer.PushReset:
		err = p.replica.Reset(e.Epoch, e.Base)
	case peer.PushRefused:
		c.link.manager.options.Logger.Debug("replication: leader refuses", "leader", c.link.leader.String(), "code", e.Code.String())
		c.delay(p)
		return nil
	default:
		return wire.Errorf(wire.CodeInvalidRequest, "push of kind %d", e.Kind)
	}
	if err != nil {
		return c.trouble(p, err)
	}
	p.seekAgain()
	return nil
}

func (c *client) data(p *part, e *peer.PushEntry, batches []byte, s *slot) error {
	d := replication.Data{
		Epoch: e.Epoch, LastEpoch: e.LastEpoch, Base: e.Base, End: e.End,
		HighWatermark: e.HighWatermark, LogStart: e.LogStart, Round: e.Round,
	}
	s.frame.refs.Add(1)
	accepted, err := p.replica.Receive(d, batches, s)
	if accepted {
		p.refusals = 0
	} else {
		s.Release()
	}
	switch {
	case err != nil:
		return c.trouble(p, err)
	case !accepted && e.End > e.Base:
		p.seekAgain()
	case p.heard(e.Round):
		p.Moved(true)
	}
	return nil
}

// heard notes a round, and returns whether it is a new one.
func (p *part) heard(round uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if round <= p.round {
		return false
	}
	p.round = round
	return true
}

// seekAgain gives up the standing fetch and begins another one.
func (p *part) seekAgain() {
	p.giveUp()
	p.Moved(true)
}

func (p *part) giveUp() {
	p.mu.Lock()
	p.again = true
	p.mu.Unlock()
}

// soonRetries is how often a refused fetch is tried again after a few milliseconds: the
// leader may be about to hear of the partition. Later ones wait for the tick.
const soonRetries = 8

// delay gives up the standing fetch and begins another one a little later.
func (c *client) delay(p *part) {
	p.giveUp()
	if p.refusals++; p.refusals <= soonRetries {
		p.Moved(false)
		return
	}
	c.mu.Lock()
	c.delayed = append(c.delayed, p)
	c.mu.Unlock()
}

// trouble decides what an error of a replica means for the session.
func (c *client) trouble(p *part, err error) error {
	switch {
	case errors.Is(err, replica.ErrMalformed), errors.Is(err, record.ErrCorrupt), errors.Is(err, record.ErrShort),
		errors.Is(err, record.ErrTooLarge), errors.Is(err, replication.ErrInvariant), errors.Is(err, log.ErrStorageFailed):
		return err
	}
	c.link.manager.options.Logger.Warn("replication: replica cannot follow", "partition", p.replica.Log().ID().String(), "error", err)
	c.delay(p)
	return nil
}

// write reports what is on the agenda until done is closed.
func (c *client) write(done <-chan struct{}) error {
	idle := time.NewTicker(c.link.manager.options.Idle)
	defer idle.Stop()
	wrote := false
	for {
		due := false // a sign of life
		select {
		case <-done:
			return nil
		case <-c.link.agenda.wake:
		case <-idle.C:
			due, wrote = !wrote, false
			c.resume()
		}
		c.list = c.link.agenda.take(c.list[:0])
		for at := 0; at < len(c.list) || due; {
			at = c.report(at)
			if len(c.progress.Entries) > 0 || due {
				if err := c.flush(); err != nil {
					return err
				}
				due, wrote = false, true
			}
		}
		clear(c.list)
	}
}

// resume puts the delayed parts on the agenda.
func (c *client) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, p := range c.delayed {
		p.Moved(true)
		c.delayed[i] = nil
	}
	c.delayed = c.delayed[:0]
}

// report fills a frame from the list and returns where it stopped.
func (c *client) report(at int) int {
	c.progress.Entries = c.progress.Entries[:0]
	for ; at < len(c.list) && len(c.progress.Entries) < maxEntries; at++ {
		c.list[at].report(c)
	}
	return at
}

func (c *client) flush() error {
	c.progress.Received = c.received.Load()
	c.buf = appendFrame(c.buf[:0], peer.KindProgress, 0, &c.progress, 0)
	_, err := c.conn.Write(c.buf)
	return err
}

// report adds the part's entry to the frame, if there is anything new to say.
func (p *part) report(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := peer.ProgressEntry{Handle: p.handle}
	if p.gone.Load() {
		if p.session == c {
			p.session = nil
			e.Flags = peer.ProgressDrop
			c.progress.Entries = append(c.progress.Entries, e)
		}
		return
	}
	fetch, leader, ok := p.replica.NextFetch()
	if !ok || leader != p.link.leader {
		p.again = true // whatever comes next is another fetch
		return
	}
	if p.session != c {
		p.session = c
		e.Flags = peer.ProgressOpen | peer.ProgressSeek
		e.ID = peer.PartitionID{Topic: p.key.Topic, Partition: p.key.Partition}
	}
	if p.again || p.epoch != fetch.Epoch {
		e.Flags |= peer.ProgressSeek
	}
	if e.Flags&peer.ProgressSeek != 0 {
		p.seek++
		p.epoch, p.again, p.round, p.received = fetch.Epoch, false, fetch.Round, new(atomic.Uint64)
	}
	now := report{fetch: fetch, received: p.received.Load()}
	if e.Flags == 0 && !now.says(&p.last) {
		return
	}
	p.last = now
	e.Seek, e.Epoch, e.Offset, e.LastEpoch, e.Durable, e.Round = p.seek, fetch.Epoch, fetch.Offset, fetch.LastEpoch, fetch.Durable, fetch.Round
	e.Received = now.received
	c.progress.Entries = append(c.progress.Entries, e)
}

// says tells whether there is anything new to the leader in a report: where the log ends
// is not, as long as it is what the leader sent.
func (r *report) says(before *report) bool {
	return r.fetch.Durable != before.fetch.Durable || r.fetch.Round != before.fetch.Round || r.received != before.received
}
