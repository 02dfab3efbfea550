package session

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
)

// Dial opens a replication stream to a broker, its preamble included.
type Dial func(ctx context.Context, node uint32) (net.Conn, error)

// Manager is the follower's side: it keeps a session to each broker that leads a
// partition which this one follows.
type Manager struct {
	options Options
	dial    Dial
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	pools   framePools

	mu     sync.Mutex
	closed bool
	parts  map[Key]*part
	links  map[replication.Member]*link
}

// NewManager returns a manager that follows nothing yet.
func NewManager(dial Dial, o Options) *Manager {
	m := &Manager{options: o.withDefaults(), dial: dial, parts: map[Key]*part{}, links: map[replication.Member]*link{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Follow has a replica fed by the broker of its leader, instead of by whom it was
// before. What epoch it follows the replica knows itself. It does not block.
func (m *Manager) Follow(key Key, r *replica.Replica, leader replication.Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	if p := m.parts[key]; p != nil {
		if p.link.leader == leader && p.replica == r {
			p.Moved(true)
			return
		}
		m.remove(p)
	}
	l := m.links[leader]
	if l == nil {
		l = newLink(m, leader)
		m.links[leader] = l
		m.running.Go(l.run)
	}
	p := l.add(key, r)
	m.parts[key] = p
	r.SetProgressNotify(p)
	p.Moved(true)
}

// Unfollow ends what Follow began. It does not block.
func (m *Manager) Unfollow(key Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.parts[key]; p != nil {
		m.remove(p)
	}
}

// remove takes a part off its link, which ends with its last one. The caller holds mu.
func (m *Manager) remove(p *part) {
	delete(m.parts, p.key)
	p.gone.Store(true)
	p.replica.ClearProgressNotify(p)
	if p.link.remove(p) == 0 {
		delete(m.links, p.link.leader)
		p.link.cancel()
		return
	}
	p.Moved(true) // the leader is told
}

// Close ends all sessions and waits for them.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	for _, p := range m.parts {
		p.replica.ClearProgressNotify(p)
	}
	m.mu.Unlock()
	m.cancel()
	m.running.Wait()
}

// link is the connection to one leader broker, made again and again.
type link struct {
	manager *Manager
	leader  replication.Member
	ctx     context.Context
	cancel  context.CancelFunc
	agenda  *agenda[part]

	mu     sync.Mutex
	parts  map[uint32]*part // by handle
	handle uint32           // last one given out
}

func newLink(m *Manager, leader replication.Member) *link {
	l := &link{manager: m, leader: leader, parts: map[uint32]*part{}, agenda: newAgenda[part](m.options.HighWatermarkDelay)}
	l.ctx, l.cancel = context.WithCancel(m.ctx)
	return l
}

func (l *link) add(key Key, r *replica.Replica) *part {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handle++
	p := &part{link: l, key: key, handle: l.handle, replica: r}
	p.item.owner = p
	l.parts[p.handle] = p
	return p
}

// remove returns how many are left.
func (l *link) remove(p *part) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.parts, p.handle)
	return len(l.parts)
}

func (l *link) find(handle uint32) *part {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.parts[handle]
}

// all puts every part on the agenda.
func (l *link) all() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.parts {
		p.Moved(true)
	}
}

// run connects until nothing is followed here any more.
func (l *link) run() {
	defer l.agenda.close()
	defer l.cancel()
	o := &l.manager.options
	backoff := o.BackoffMin
	level := slog.LevelWarn
	for l.ctx.Err() == nil {
		began := time.Now()
		if err := l.connect(); err != nil && l.ctx.Err() == nil {
			o.Logger.Log(l.ctx, level, "replication: no session with a leader", "leader", l.leader.String(), "error", err)
		}
		// Said once until it worked for a while.
		level = slog.LevelDebug
		if time.Since(began) > o.BackoffMax {
			backoff, level = o.BackoffMin, slog.LevelWarn
		}
		pause := time.NewTimer(backoff/2 + rand.N(backoff/2+1))
		select {
		case <-l.ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
		backoff = min(2*backoff, o.BackoffMax)
	}
}

// connect runs one session.
func (l *link) connect() error {
	ctx, cancel := context.WithTimeout(l.ctx, l.manager.options.Handshake)
	conn, err := l.manager.dial(ctx, l.leader.Node)
	cancel()
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(l.ctx, func() { conn.Close() })
	defer stop()
	c := &client{link: l, conn: conn, in: newFrames(conn, l.manager.options.Silence)}
	return c.run()
}

// part is one partition that is followed. Its lock is taken before the replica's.
type part struct {
	link     *link
	key      Key
	handle   uint32
	replica  *replica.Replica
	item     item[part]
	gone     atomic.Bool
	refusals int // one after the other; the reader's

	mu       sync.Mutex
	session  *client // in which the handle is open
	seek     uint32  // the standing fetch
	epoch    uint32  // that it is of
	again    bool    // it is over: seek again
	received *atomic.Uint64
	last     report
	round    uint64 // highest one pushed
}

// report is what was said last.
type report struct {
	fetch    replication.Fetch
	received uint64
}

// Moved implements replica.Notify.
func (p *part) Moved(now bool) { p.link.agenda.add(&p.item, now) }
