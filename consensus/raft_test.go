package consensus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
)

func TestCommandsFromEveryBroker(t *testing.T) {
	b := found(t, 3, nil)
	for i, n := range b.nodes {
		require.NoError(t, b.do(n, create(fmt.Sprint("topic-", i), byte(i+1))).Errors[0])
		n.running().View(func(m *Machine) {
			_, there := m.Topic(fmt.Sprint("topic-", i))
			require.True(t, there, "who proposed a command sees what it did")
		})
		refused := b.do(n, create(fmt.Sprint("topic-", i), 77))
		require.ErrorIs(t, refused.Errors[0], wire.ErrTopicExists, "and what refused it")
	}
	m := b.agree()
	topics, _ := m.Counts()
	require.Equal(t, 3, topics)
	require.Len(t, m.Brokers(), 3)
	for _, n := range b.nodes {
		n.mu.Lock()
		var names []string
		for _, c := range n.changes {
			if c.Kind == TopicCreated {
				names = append(names, c.Topic.Name)
			}
		}
		n.mu.Unlock()
		require.Equal(t, []string{"topic-0", "topic-1", "topic-2"}, names, "every broker hears of every change, in order")
		id, addr := n.running().Leader()
		require.Equal(t, b.leader().id, id)
		require.Equal(t, b.leader().addr(), addr)
	}
}

// Proposals go on through the death of leaders, and each is carried out exactly once.
func TestLeadersDie(t *testing.T) {
	b := found(t, 3, nil)
	var given sync.Map
	var count atomic.Int64
	propose := func(n *node) {
		r, err := n.running().Do(context.Background(), ReserveProducers{1})
		if err == nil {
			_, twice := given.LoadOrStore(r.Producer.ID, true)
			require.False(t, twice, "producer id %d was given out twice", r.Producer.ID)
			count.Add(1)
		}
	}
	for round := range 3 {
		dying := b.awaitLeader()
		var wg sync.WaitGroup
		for _, n := range b.nodes {
			if n != dying {
				for range 10 {
					wg.Go(func() { propose(n) })
				}
			}
		}
		dying.kill(round%2 == 0)
		wg.Wait()
		dying.start()
		b.voters(3)
	}
	require.EqualValues(t, 60, count.Load(), "nothing failed")
	m := b.agree()
	require.EqualValues(t, 61, m.NextProducer(), "nothing was carried out twice")
}

func TestAnswersOfTheLeaderGetLost(t *testing.T) {
	b := found(t, 3, nil)
	var follower *node
	for _, n := range b.nodes {
		if n != b.awaitLeader() {
			follower = n
		}
	}
	var lost atomic.Int64
	follower.lost = func([]byte) bool { return lost.Add(1) <= 3 }
	r := b.do(follower, InitProducer{Name: "p"})
	require.Equal(t, NamedProducer{1, 1}, r.Producer)
	b.do(follower, InitProducer{Name: "q"})
	m := b.agree()
	require.EqualValues(t, 3, m.NextProducer())
	require.Equal(t, NamedProducer{1, 1}, m.named["p"])
}

func TestAllLosePower(t *testing.T) {
	b := found(t, 3, nil)
	for i := range byte(20) {
		require.NoError(t, b.do(b.nodes[i%3], create(fmt.Sprint("topic-", i), i+1)).Errors[0])
	}
	before := b.agree()
	for _, n := range b.nodes {
		n.kill(true)
	}
	for _, n := range b.nodes {
		n.start()
	}
	b.do(b.nodes[1], PurgeTopics{})
	after := b.agree()
	require.Equal(t, sortedNames(before), sortedNames(after))
}

func sortedNames(m *Machine) (names []string) {
	for t := range m.Topics() {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return names
}

// A voter with a wiped disk is another one: the old one goes, nothing acknowledged is voted away.
func TestAWipedVoterIsReplaced(t *testing.T) {
	b := found(t, 3, nil)
	require.NoError(t, b.do(b.nodes[0], create("kept", 1)).Errors[0])
	var wiped *node
	for _, n := range b.nodes[1:] {
		if n != b.awaitLeader() {
			wiped = n
		}
	}
	wiped.kill(false)
	old := wiped.disk
	wiped.wipe()
	r := wiped.start()
	state, err := r.HasState()
	require.NoError(t, err)
	require.False(t, state)
	require.NoError(t, b.do(b.nodes[0], create("without it", 2)).Errors[0])
	require.Zero(t, r.Applied(), "under its old name it takes part in nothing")
	require.Zero(t, r.Term())

	registered := b.register(wiped, true)
	require.EqualValues(t, 4, registered.Disk)
	b.voters(3)
	for _, n := range b.nodes {
		for _, server := range n.running().Stats().Servers {
			require.NotContains(t, server, string(serverID(old)))
		}
	}
	// Now it counts: with another one down there is a majority still.
	for _, n := range b.nodes {
		if n != wiped && n != b.leader() {
			n.kill(false)
			break
		}
	}
	require.NoError(t, b.do(wiped, create("with it", 3)).Errors[0])
	require.Equal(t, []string{"kept", "with it", "without it"}, sortedNames(b.agree()))
}

func TestBrokersComeAndGo(t *testing.T) {
	b := found(t, 1, nil)
	for range 3 {
		n := b.add()
		n.start()
		b.register(n, len(b.nodes) < 4)
	}
	b.voters(3)
	b.eventually("a follower without a vote", func() bool { return b.nodes[0].running().Stats().NonVoters == 1 })
	last := b.nodes[3]
	require.NoError(t, b.do(last, create("by a non-voter", 1)).Errors[0])
	b.agree()

	m := b.agree()
	second, _ := m.Broker(2)
	fourth, _ := m.Broker(4)
	b.do(last, SetVoter{second.Member(), false})
	b.do(last, SetVoter{fourth.Member(), true})
	b.eventually("the vote passes on", func() bool {
		s := b.nodes[0].running().Stats()
		return s.Voters == 3 && slices.Contains(s.Servers, "Voter "+string(serverAddress(last.disk, last.addr())))
	})
	b.nodes[1].stop()
	b.do(b.nodes[0], RemoveBroker{2})
	b.eventually("it is gone from Raft", func() bool { s := b.nodes[0].running().Stats(); return s.Voters == 3 && s.NonVoters == 0 })
}

// A broker that was away for long gets the state instead of the commands, and hears what is
// different.
func TestASnapshotTakesTheirPlace(t *testing.T) {
	b := found(t, 3, func(o *RaftOptions) { o.SnapshotEntries, o.SnapshotInterval = 5, 5*time.Millisecond })
	require.NoError(t, b.do(b.nodes[0], create("before", 1)).Errors[0])
	require.NoError(t, b.do(b.nodes[0], create("doomed", 2)).Errors[0])
	away := b.nodes[2]
	if away == b.awaitLeader() {
		away = b.nodes[1]
	}
	b.agree()
	until := away.running().Applied()
	b.eventually("a snapshot with both topics", func() bool {
		b.do(b.nodes[0], PurgeTopics{})
		return away.running().Stats().SnapshotIndex >= until
	})
	away.stop()
	for i := range byte(60) {
		require.NoError(t, b.do(b.nodes[0], create(fmt.Sprint("topic-", i), i+10)).Errors[0])
	}
	b.do(b.nodes[0], DeleteTopics{[]wire.UUID{{15: 2, 0: 1}}})
	b.do(b.nodes[0], BeginEpochs{[]BeginEpoch{{wire.UUID{15: 1, 0: 1}, 1, 0, nil}}})
	b.do(b.nodes[0], InitProducer{Name: "p"})
	b.eventually("entries it needs are gone", func() bool {
		b.do(b.nodes[0], PurgeTopics{}) // each snapshot lets the log before the one before it go
		for _, n := range b.nodes {
			if r := n.running(); r != nil && r.Stats().First < 30 {
				return false
			}
		}
		return true
	})
	r, err := away.open()
	require.NoError(t, err)
	kinds := map[ChangeKind]int{}
	r.View(func(m *Machine) {
		for _, c := range diff(m, b.leaderState()) {
			kinds[c.Kind]++
		}
	})
	require.Equal(t, 1, kinds[TopicDeleted])
	require.Equal(t, 60, kinds[TopicCreated])
	r.Start()
	b.agree()
	away.mu.Lock()
	heard := map[ChangeKind]int{}
	for _, c := range away.changes {
		heard[c.Kind]++
	}
	away.mu.Unlock()
	for _, kind := range []ChangeKind{TopicCreated, TopicDeleted, PartitionsChanged, ProducerRaised} {
		require.Equal(t, kinds[kind], heard[kind], "kind %d", kind)
	}
	require.NoError(t, b.do(away, create("after", 99)).Errors[0])
	// What came by snapshot is there after a power failure too.
	names := sortedNames(b.agree())
	away.kill(true)
	away.start()
	require.Equal(t, names, sortedNames(b.agree()))
}

func (b *bed) leaderState() *Machine {
	m := NewMachine()
	b.awaitLeader().running().View(func(now *Machine) { require.NoError(b.t, m.Restore(now.Snapshot())) })
	return m
}

func TestALoneVoterLeadsAtOnce(t *testing.T) {
	b := found(t, 1, func(o *RaftOptions) { o.ElectionTimeout = testWait }) // which it must not wait for
	require.NoError(t, b.do(b.nodes[0], create("a", 1)).Errors[0])
	for range 3 {
		b.nodes[0].kill(true)
		b.nodes[0].start()
		b.do(b.nodes[0], PurgeTopics{})
		require.Equal(t, []string{"a"}, sortedNames(b.agree()))
	}
	require.Error(t, b.nodes[0].running().Bootstrap(), "a cluster is founded once")
}

func TestNothingIsAppliedBeforeStart(t *testing.T) {
	b := found(t, 1, nil)
	require.NoError(t, b.do(b.nodes[0], create("a", 1)).Errors[0])
	b.nodes[0].kill(false)
	r, err := b.nodes[0].open()
	require.NoError(t, err)
	b.awaitLeader()
	require.Zero(t, r.Applied())
	require.Empty(t, b.nodes[0].changes)
	r.Start()
	b.do(b.nodes[0], PurgeTopics{})
	b.nodes[0].mu.Lock()
	require.Len(t, b.nodes[0].changes, 2, "the registration and the topic")
	b.nodes[0].mu.Unlock()
}

func TestAMinorityDecidesNothing(t *testing.T) {
	b := found(t, 3, nil)
	cut := b.awaitLeader()
	b.cutOff(cut, true)
	b.eventually("the one that is cut off gives up", func() bool { return !cut.running().IsLeader() })
	ctx, cancel := context.WithCancel(context.Background())
	outcome := make(chan error, 1)
	go func() {
		_, err := cut.running().Do(ctx, create("late", 1))
		outcome <- err
	}()
	var other *node
	for _, n := range b.nodes {
		if n != cut {
			other = n
		}
	}
	require.NoError(t, b.do(other, create("majority", 2)).Errors[0])
	select {
	case err := <-outcome:
		t.Fatalf("a minority decided: %v", err)
	default:
	}
	b.cutOff(cut, false)
	require.NoError(t, <-outcome, "it is decided once there is a majority")
	cancel()
	require.Equal(t, []string{"late", "majority"}, sortedNames(b.agree()))
	b.nodes[0].mu.Lock()
	defer b.nodes[0].mu.Unlock()
	for i, leads := range b.nodes[0].leads {
		require.Equal(t, i%2 == 0, leads, "leading begins and ends in turn")
	}
}

func TestLeadershipIsHandedOver(t *testing.T) {
	b := found(t, 3, nil)
	before := b.awaitLeader()
	b.eventually("it knows", func() bool {
		before.mu.Lock()
		defer before.mu.Unlock()
		return slices.Equal(before.leads, []bool{true})
	})
	require.NoError(t, before.running().TransferLeadership())
	b.eventually("another leader", func() bool { n := b.leader(); return n != nil && n != before })
	b.eventually("it knows", func() bool {
		before.mu.Lock()
		defer before.mu.Unlock()
		return slices.Equal(before.leads, []bool{true, false})
	})
	require.NoError(t, b.do(before, create("a", 1)).Errors[0])
}

func TestClosedAndOversizedAreRefused(t *testing.T) {
	b := found(t, 1, nil)
	r := b.nodes[0].running()
	_, err := r.Do(context.Background(), ImportState{make([]byte, MaxCommandBytes)})
	require.ErrorIs(t, err, wire.ErrInvalidRequest)
	_, _, err = r.ApplyForwarded(context.Background(), []byte{200, 2, 1})
	require.ErrorIs(t, err, wire.ErrInvalidRequest, "what would stop every machine gets nowhere")
	b.nodes[0].stop()
	_, err = r.Do(context.Background(), create("a", 1))
	require.ErrorIs(t, err, ErrClosed)
}

// The first error of the storage is the last thing the broker does; the others go on.
func TestStorageErrorsStopABroker(t *testing.T) {
	for _, leads := range []bool{true, false} {
		t.Run(fmt.Sprint("leader=", leads), func(t *testing.T) {
			b := found(t, 3, nil)
			failing, other := b.awaitLeader(), b.nodes[0]
			if other == failing {
				other = b.nodes[1]
			}
			if !leads {
				failing, other = other, failing
			}
			failing.fs.FailAt(1, context.DeadlineExceeded) // any error
			require.NoError(t, b.do(other, create("a", 1)).Errors[0])
			require.Error(t, <-failing.fatal)
			require.NoError(t, b.do(other, create("b", 2)).Errors[0])
			require.ErrorIs(t, failing.running().log.StoreLog(nil), context.DeadlineExceeded, "it stays failed")
			failing.kill(false)
			require.Equal(t, []string{"a", "b"}, sortedNames(b.agree()))
		})
	}
}

// When the process of the leader is gone nobody waits for the election time-out.
func TestADeadLeaderIsReplacedAtOnce(t *testing.T) {
	b := found(t, 3, func(o *RaftOptions) { o.ElectionTimeout = 10 * testWait })
	b.awaitLeader().kill(false)
	var alive []*node
	for _, n := range b.nodes {
		if n.running() != nil {
			alive = append(alive, n)
		}
	}
	require.NoError(t, b.do(alive[0], create("a", 1)).Errors[0])
	require.NoError(t, b.do(alive[1], create("b", 2)).Errors[0])
	b.agree()
}

func TestAWipedVoterUnderItsOldNameWouldBeNoticed(t *testing.T) {
	b := found(t, 3, nil)
	var wiped *node
	for _, n := range b.nodes[1:] {
		if n != b.awaitLeader() {
			wiped = n
		}
	}
	wiped.kill(false)
	wiped.wipe()
	b.anyDisk = true
	r := wiped.start()
	b.eventually("it acknowledges under a name whose promises it has forgotten", func() bool { return r.Term() > 0 })
}
