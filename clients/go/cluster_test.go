package sequitur

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// addrs lists the addresses of brokers as Connect takes them.
func addrs(servers []*testServer) string {
	var list []string
	for _, s := range servers {
		list = append(list, s.addr())
	}
	return strings.Join(list, ",")
}

// trouble is what befalls a cluster: the leaders move all the time, for all the reasons
// there are. It paces itself by what the cluster does meanwhile.
type trouble struct {
	t     *testing.T
	peers []*testServer
	done  chan struct{} // closed at its end
}

func (x *trouble) over() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

// progress waits until the cluster has done so much more of something.
func (x *trouble) progress(n int, what func() int) {
	upTo := -1
	x.peers[0].waitFor(func() bool {
		if upTo < 0 {
			upTo = what() + n
		}
		return what() >= upTo
	})
}

func (x *trouble) appended() int { return x.peers[0].appended }

// asked is how often metadata were asked for.
func (x *trouble) asked() (n int) {
	for _, p := range x.peers {
		n += len(p.asked)
	}
	return n
}

func (x *trouble) run() {
	for round := range 18 {
		x.progress(5, x.appended)
		victim := x.peers[rand.IntN(len(x.peers))]
		others := make([]*testServer, 0, len(x.peers))
		for _, p := range x.peers {
			if p != victim {
				others = append(others, p)
			}
		}
		switch round % 6 {
		case 0: // leadership is handed over
			victim.lead("storm", rand.IntN(len(x.peers[0].topics["storm"].parts)))
			victim.lead("storm", rand.IntN(len(x.peers[0].topics["storm"].parts)))
		case 1: // killed; the election takes its time
			victim.lead("storm", rand.IntN(len(x.peers[0].topics["storm"].parts)))
			victim.kill()
			x.progress(50, func() int { return 25*x.asked() + x.appended() }) // whoever notices asks
			elect(others...)
			x.progress(5, x.appended)
			victim.restart()
		case 2: // elected, but not serving yet
			left := 5
			victim.set(func() {
				victim.onProduce = func(string, uint32, record.Batch) wire.Code {
					if left--; left < 0 {
						return wire.CodeNone
					}
					return wire.CodeNotLeader
				}
			})
			victim.lead("storm")
		case 3: // a clean shutdown
			victim.set(func() { victim.leaving = true })
			victim.depose()
			elect(others...)
			x.progress(5, x.appended)
			victim.stop()
			victim.restart()
			victim.set(func() { victim.leaving = false })
		case 4: // connections break, also behind what was carried out
			left := 10
			victim.set(func() {
				victim.swallow = func(k wire.Kind) bool {
					left--
					return k == wire.KindProduce && left >= 0
				}
			})
		case 5: // the broker falls silent
			victim.set(func() { victim.hang = func(wire.Kind) bool { return true } })
			victim.depose()
			elect(others...)
			x.progress(5, x.appended)
			victim.serveHeld()
		}
	}
	for _, p := range x.peers {
		p.set(func() { p.hang, p.swallow, p.onProduce = nil, nil, nil })
		p.serveHeld()
	}
	elect(x.peers...)
	close(x.done)
}

// follow reads every partition until it has all records and returns them by partition.
func follow(t *testing.T, c *Client, partitions int, count *atomic.Int64, opts ...ConsumerOption) ([][]string, error) {
	k, err := c.NewConsumer(t.Context(), []string{"storm"}, opts...)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	logs := make([][]string, partitions)
	n := int64(0)
	for r, err := range k.Records(t.Context()) {
		if err != nil {
			return logs, err
		}
		if r.Offset != int64(len(logs[r.Partition])) {
			return logs, fmt.Errorf("partition %d: offset %d comes after %d", r.Partition, r.Offset, len(logs[r.Partition])-1)
		}
		logs[r.Partition] = append(logs[r.Partition], string(r.Value))
		if n++; n == count.Load() {
			break
		}
	}
	return logs, nil
}

// failovers sends and reads while leaders move and returns what the checker says.
func failovers(t *testing.T, partitions int, broken rules) error {
	peers := startCluster(t, 3)
	for i, p := range peers {
		p.rack = fmt.Sprint(i)
	}
	peers[0].create("storm", config(uint32(partitions)))
	c := connect(t, addrs(peers), WithRack("1"), WithRequestTimeout(time.Hour), WithDialTimeout(time.Minute))
	const senders = 2
	var sent, total atomic.Int64
	p := newProducer(t, c, WithBatchBytes(1<<10), WithMaxBufferedBytes(64<<10))
	if partitions >= stageFrom {
		p = newProducer(t, c, WithBatchBytes(1<<10), WithMaxBufferedBytes(4*stageMemory))
	}
	p.rules = broken
	h := newHistory()
	x := &trouble{t: t, peers: peers, done: make(chan struct{})}
	var troubles, readers, sending sync.WaitGroup
	troubles.Go(x.run)
	read := make([]error, 2)
	if broken == (rules{}) {
		for i, from := range []ReadFrom{ReadLeader, ReadNearest} {
			readers.Go(func() {
				var logs [][]string
				if logs, read[i] = follow(t, c, partitions, &total, WithReadFrom(from)); read[i] == nil {
					read[i] = newHistory().check(logs)
				}
			})
		}
	}
	send := func(name string, i int) Record {
		v := fmt.Sprintf("%s/%d", name, i)
		sent.Add(1)
		return Record{Topic: "storm", Key: []byte{byte(rand.IntN(200))}, Value: []byte(v)}
	}
	unanswered := make(chan struct{}, 4000) // bounds the work of one round
	answered := func(done func(Ack, error)) func(Ack, error) {
		return func(a Ack, err error) {
			<-unanswered
			done(a, err)
		}
	}
	for g := range senders {
		sending.Go(func() {
			for i := 0; !x.over(); i++ {
				unanswered <- struct{}{}
				r := send(fmt.Sprintf("s%d", g), i)
				if err := p.SendAsync(t.Context(), r, answered(h.outcome(string(r.Value)))); err != nil {
					answered(h.outcome(string(r.Value)))(Ack{}, err)
				}
			}
		})
	}
	sending.Go(func() {
		for i := 0; !x.over(); i++ {
			r := send("sync", i)
			ack, err := p.Send(t.Context(), r)
			h.outcome(string(r.Value))(ack, err)
		}
	})
	troubles.Wait()
	sending.Wait()
	last := send("last", 0)
	total.Store(sent.Load()) // known to whoever reads the last one
	require.NoError(t, p.SendAsync(t.Context(), last, h.outcome(string(last.Value))))
	err := p.Close(t.Context())
	if len(h.failed) == 0 {
		readers.Wait()
	}
	require.NoError(t, err)
	for _, err := range read {
		require.NoError(t, err)
	}
	for v, err := range h.failed {
		return fmt.Errorf("a failover shows: %s: %w", v, err)
	}
	require.Len(t, h.acked, int(total.Load()))
	var logs [][]string
	for i := range partitions {
		logs = append(logs, peers[0].log("storm", i))
	}
	return h.check(logs)
}

func TestFailovers(t *testing.T) {
	for _, partitions := range []int{few, many} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			require.NoError(t, failovers(t, partitions, rules{}))
		})
	}
}

func TestTeethFailoversWithRenumberedRetries(t *testing.T) {
	for failovers(t, few, rules{renumberRetries: true}) == nil {
		// Nothing was repeated this time.
	}
}

// A broker that does not know that it was deposed must not win back, by its old
// metadata, who knows better.
func TestOlderEpochNeverReplacesNewer(t *testing.T) {
	for _, broken := range []bool{false, true} {
		peers := startCluster(t, 2)
		old, fresh := peers[0], peers[1]
		old.create("storm", config(1))
		c := connect(t, fresh.addr())
		c.meta.trustOldEpochs = broken
		p := newProducer(t, c)
		h := newHistory()
		send := func(v string) {
			ack, err := p.Send(t.Context(), Record{Topic: "storm", Value: []byte(v)})
			h.outcome(v)(ack, err)
			require.NoError(t, err)
		}
		send("s/0")
		fresh.lead("storm")
		send("s/1")
		old.set(func() { // it acknowledges what will be lost
			old.deposed = map[holeKey]*deposedState{{"storm", 0}: {1, &testPartition{end: 2, epoch: 1, producers: map[uint64]*testProducer{}}}}
		})
		info := c.meta.topic("storm")
		_, err := c.refreshTopic(t.Context(), "test", "storm", info, c.node(fresh.addr()))
		require.NoError(t, err)
		require.NotEmpty(t, old.asked)
		c.scout.want(p, "storm", 0, c.node(fresh.addr()))
		waitUntil(t, p, func() bool { return p.topics["storm"].info != info })
		send("s/2")
		err = h.check([][]string{fresh.log("storm", 0)})
		if broken {
			require.ErrorContains(t, err, "was acknowledged", "the checker must see the lost record")
		} else {
			require.NoError(t, err)
		}
		require.NoError(t, p.Close(t.Context()))
	}
}

// Brokers learnt from metadata serve when those named at the start are gone.
func TestBootstrapAndLearntBrokers(t *testing.T) {
	peers := startCluster(t, 3)
	peers[0].create("storm", config(3))
	c := connect(t, deadAddr(t)+","+peers[0].addr())
	p := newProducer(t, c)
	for i := range 3 {
		_, err := p.Send(t.Context(), Record{Topic: "storm", Key: []byte{byte(i)}})
		require.NoError(t, err)
	}
	peers[0].kill()
	elect(peers[1:]...)
	peers[1].create("later", config(1))
	peers[1].lead("later")
	for _, topic := range []string{"storm", "later"} {
		_, err := p.Send(t.Context(), Record{Topic: topic})
		require.NoError(t, err)
	}
	list, err := c.ListOffsets(t.Context(), "storm", End())
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.NoError(t, p.Close(t.Context()))
}

// A leader that falls silent, its connections open, is left as soon as there is another,
// long before the request timeout.
func TestSilentLeader(t *testing.T) {
	peers := startCluster(t, 2)
	peers[0].create("storm", config(1))
	c := connect(t, addrs(peers), WithRequestTimeout(time.Hour), WithDialTimeout(time.Hour))
	p := newProducer(t, c)
	k := newConsumer(t, c, "storm")
	buf := make([]Record, 10)
	send := func(v string) {
		_, err := p.Send(t.Context(), Record{Topic: "storm", Value: []byte(v)})
		require.NoError(t, err)
		n, err := k.Poll(t.Context(), buf)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, v, string(buf[0].Value))
	}
	send("s/0")
	peers[0].set(func() { peers[0].hang = func(wire.Kind) bool { return true } })
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		send("s/1")
	}()
	peers[0].waitFor(func() bool { return len(peers[0].held) > 0 })
	peers[1].lead("storm")
	<-sent
	send("s/2")
	peers[0].serveHeld() // too late
	require.Equal(t, []string{"s/0", "s/1", "s/2"}, peers[1].log("storm", 0))
	require.NoError(t, p.Close(t.Context()))
}

// A broker's open circuit breaker delays neither the failover to another one nor the
// return.
func TestBreakerDelaysNoFailover(t *testing.T) {
	peers := startCluster(t, 2)
	peers[0].create("storm", config(1))
	log := &breakerLog{changes: make(chan string, 1000), dials: make(chan error, 10_000)}
	c := connect(t, addrs(peers), WithBreaker(1, time.Hour), WithHooks(log))
	p := newProducer(t, c)
	k := newConsumer(t, c, "storm")
	buf := make([]Record, 10)
	send := func() {
		_, err := p.Send(t.Context(), Record{Topic: "storm"})
		require.NoError(t, err)
		n, err := k.Poll(t.Context(), buf)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	send()
	peers[0].kill()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		send()
	}()
	require.Equal(t, "closed open", <-log.changes)
	elect(peers[1])
	<-sent
	peers[0].restart()
	peers[0].lead("storm")
	peers[1].kill() // the rest is up to the first one
	send()
	require.NoError(t, p.Close(t.Context()))
}

// All that want metadata while a question is under way wait for one further question.
func TestOneRefreshForAll(t *testing.T) {
	s := startServer(t)
	const topics = 50
	c := connect(t, s.addr())
	p := newProducer(t, c)
	for i := range topics {
		s.create(fmt.Sprint("t", i), config(1))
		_, err := p.Send(t.Context(), Record{Topic: fmt.Sprint("t", i)})
		require.NoError(t, err)
	}
	s.set(func() {
		s.asked = nil
		s.hang = func(k wire.Kind) bool { return k == wire.KindMetadata }
	})
	p.mu.Lock()
	first := p.topics["t0"].parts[0]
	first.wantMetadata(0)
	p.mu.Unlock()
	s.waitFor(func() bool { return len(s.held) == 1 })
	p.mu.Lock()
	for range 3 {
		for _, topic := range p.topics {
			topic.parts[0].wantMetadata(0)
		}
	}
	p.mu.Unlock()
	s.serveHeld()
	s.waitFor(func() bool { return len(s.asked) == 2 })
	s.set(func() { require.Equal(t, []int{1, topics}, s.asked) })
	require.NoError(t, p.Close(t.Context()))
}

// A broker that is behind may say that a topic does not exist, or its leader lack what
// was acknowledged, or a position: none of that is believed at once.
func TestBrokersThatAreBehind(t *testing.T) {
	peers := startCluster(t, 2)
	peers[0].create("storm", config(1))
	peers[0].set(func() { peers[0].lacking = map[string]bool{"storm": true} })
	var resets resetCounter
	c := connect(t, peers[0].addr(), WithHooks(&resets))
	p := newProducer(t, c)
	send := func(v string) {
		_, err := p.Send(t.Context(), Record{Topic: "storm", Value: []byte(v)})
		require.NoError(t, err)
	}
	send("s/0")
	require.NotEmpty(t, peers[0].asked)
	for _, code := range []wire.Code{wire.CodeUnknownTopic, wire.CodeSequenceGap, wire.CodeNotLeader, wire.CodeStorageFailed} {
		left := 3
		peers[0].set(func() {
			peers[0].onProduce = func(string, uint32, record.Batch) wire.Code {
				if left--; left >= 0 {
					return code
				}
				return wire.CodeNone
			}
		})
		send("s/" + fmt.Sprint(int(code)+1))
	}
	require.Zero(t, resets.lost.Load())
	k := newConsumer(t, c, "storm", UntilEnd())
	for _, code := range []wire.Code{wire.CodeUnknownTopic, wire.CodeOffsetOutOfRange, wire.CodeOffsetNotAvailable, wire.CodeShuttingDown} {
		left := 3
		peers[0].set(func() {
			peers[0].onFetch = func(string, uint32) wire.Code {
				if left--; left >= 0 {
					return code
				}
				return wire.CodeNone
			}
		})
		require.NoError(t, k.Seek(t.Context(), "storm", 0, Offset(1)))
		got, err := offsets(t.Context(), k)
		require.NoError(t, err, code)
		require.Equal(t, upTo(1, 5), got)
	}
	require.NoError(t, p.Close(t.Context()))
	_, err := c.ListOffsets(t.Context(), "nowhere", End())
	require.ErrorIs(t, err, ErrUnknownTopic)
}

// Records are read from the replica in the client's rack, which may lag; from the leader
// when that does not serve.
func TestReadNearest(t *testing.T) {
	peers := startCluster(t, 3)
	for i, p := range peers {
		p.rack = fmt.Sprint("rack ", i)
	}
	peers[0].create("storm", config(1))
	c := connect(t, addrs(peers), WithRack("rack 1"))
	batched(t, c, "storm", 10)
	near := func() *Consumer { return newConsumer(t, c, "storm", UntilEnd(), WithReadFrom(ReadNearest)) }
	got, err := offsets(t.Context(), near())
	require.NoError(t, err)
	require.Equal(t, upTo(0, 100), got)
	require.Zero(t, peers[0].count(wire.KindFetch))
	require.NotZero(t, peers[1].count(wire.KindFetch))

	// The replica lags, then has the rest; the position stays.
	peers[1].set(func() { peers[1].behind = 30 })
	k := near()
	require.NoError(t, k.Seek(t.Context(), "storm", 0, Offset(80)))
	read := make(chan []int64)
	go func() {
		got, _ := offsets(t.Context(), k)
		read <- got
	}()
	before := peers[1].count(wire.KindFetch)
	peers[1].waitFor(func() bool { return peers[1].requests[wire.KindFetch] > before+2 })
	peers[1].set(func() { peers[1].behind = 0 })
	require.Equal(t, upTo(80, 100), <-read)

	// It lags for good: the leader has the rest.
	peers[1].set(func() { peers[1].behind = 30 })
	k = near()
	require.NoError(t, k.Seek(t.Context(), "storm", 0, Offset(80)))
	got, err = offsets(t.Context(), k)
	require.NoError(t, err)
	require.Equal(t, upTo(80, 100), got)

	for _, trouble := range []func(){
		func() { peers[1].onFetch = func(string, uint32) wire.Code { return wire.CodeOffsetOutOfRange } },
		func() { peers[1].onFetch = func(string, uint32) wire.Code { return wire.CodeNotLeader } },
		func() { peers[1].onFetch = func(string, uint32) wire.Code { return wire.CodeCorrupt } },
		func() { peers[1].hang = func(k wire.Kind) bool { return k == wire.KindFetch } },
	} {
		peers[1].set(trouble)
		got, err = offsets(t.Context(), near())
		require.NoError(t, err)
		require.Equal(t, upTo(0, 100), got)
	}
	peers[1].kill()
	got, err = offsets(t.Context(), near())
	require.NoError(t, err)
	require.Equal(t, upTo(0, 100), got)
	_, err = c.NewConsumer(t.Context(), []string{"storm"}, WithReadFrom(7))
	require.ErrorIs(t, err, ErrMisuse)
}

// An answer that gets lost does not make an error of what was done.
func TestLostAnswerToCreateTopic(t *testing.T) {
	peers := startCluster(t, 2)
	c := connect(t, addrs(peers))
	once := true
	peers[0].set(func() {
		for _, p := range peers {
			p.swallow = func(k wire.Kind) bool {
				lose := k == wire.KindCreateTopics && once
				once = once && !lose
				return lose
			}
		}
	})
	require.NoError(t, c.CreateTopic(t.Context(), "orders", config(3)))
	require.ErrorIs(t, c.CreateTopic(t.Context(), "orders", config(3)), ErrTopicExists)
	once = true
	require.ErrorIs(t, c.CreateTopic(t.Context(), "orders", config(4)), ErrTopicExists, "another one")
	peers[0].set(func() { peers[0].leaving = true })
	require.NoError(t, c.CreateTopic(t.Context(), "later", config(3)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.CreateTopic(ctx, "never", config(3)), context.Canceled)
}
