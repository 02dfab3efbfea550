package consensus

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

func testTopic(name string, id byte, partitions int) *Topic {
	t := &Topic{ID: wire.UUID{15: id, 0: 1}, Name: name, Config: wire.DefaultTopicConfig()}
	t.Config.Partitions = uint32(partitions)
	for range partitions {
		t.Partitions = append(t.Partitions, aloneOn(1))
	}
	return t
}

// aloneOn is a partition on a standalone broker.
func aloneOn(node uint32) Partition {
	m := replication.Member{Node: node, Disk: 1}
	return Partition{Leader: m, Epoch: 1, Set: replication.ReplicaSet{Members: []replication.Member{m}}}
}

func apply(t testing.TB, m *Machine, c Command) Result {
	t.Helper()
	r, err := m.Apply(m.Applied()+1, Encode(c))
	require.NoError(t, err)
	return r
}

func TestCreateAlterDelete(t *testing.T) {
	m := NewMachine()
	r := apply(t, m, CreateTopics{[]*Topic{testTopic("a", 1, 3), testTopic("b", 2, 1), testTopic("a", 3, 1)}})
	require.NoError(t, r.Errors[0])
	require.NoError(t, r.Errors[1])
	require.ErrorIs(t, r.Errors[2], wire.ErrTopicExists, "a name is taken once")
	require.Len(t, r.Changes, 2)

	again := apply(t, m, CreateTopics{[]*Topic{testTopic("a", 1, 3)}})
	require.NoError(t, again.Errors[0], "proposing the same topic twice is no error")
	require.Empty(t, again.Changes)
	require.ErrorIs(t, apply(t, m, CreateTopics{[]*Topic{testTopic("c", 1, 3)}}).Errors[0], wire.ErrTopicExists)

	before, _ := m.Topic("a")
	config := before.Config
	config.MaxBatchBytes = 4096
	config.Splits = [][]byte{[]byte("x")}
	require.NoError(t, apply(t, m, AlterTopic{before.ID, 0, config}).Errors[0])
	after, _ := m.TopicByID(before.ID)
	require.Equal(t, config, after.Config)
	require.EqualValues(t, 1, after.Version)
	require.NotEqual(t, config, before.Config, "a published topic does not change")
	require.ErrorIs(t, apply(t, m, AlterTopic{before.ID, 0, config}).Errors[0], ErrChanged, "based on an old version")
	require.ErrorIs(t, apply(t, m, AlterTopic{wire.UUID{9}, 0, config}).Errors[0], wire.ErrUnknownTopic)

	topics, partitions := m.Counts()
	require.Equal(t, []int{2, 4}, []int{topics, partitions})
	r = apply(t, m, DeleteTopics{[]wire.UUID{before.ID, {9}}})
	require.NoError(t, r.Errors[0])
	require.ErrorIs(t, r.Errors[1], wire.ErrUnknownTopic)
	_, there := m.Topic("a")
	require.False(t, there)
	topics, partitions = m.Counts()
	require.Equal(t, []int{1, 1}, []int{topics, partitions})

	require.Equal(t, map[wire.UUID]uint32{before.ID: 3}, maps.Collect(m.Deleted()), "a tombstone stays")
	require.ErrorIs(t, apply(t, m, CreateTopics{[]*Topic{testTopic("a", 1, 3)}}).Errors[0], wire.ErrTopicExists, "under the same UUID")
	apply(t, m, PurgeTopics{[]wire.UUID{before.ID}})
	require.Empty(t, maps.Collect(m.Deleted()))
}

func TestProducerIDsAreNeverReused(t *testing.T) {
	m := NewMachine()
	seen := map[uint64]bool{0: true} // 0 means no producer
	take := func(first uint64, n int) {
		for i := range uint64(n) {
			require.False(t, seen[first+i], "id %d given out twice", first+i)
			seen[first+i] = true
		}
	}
	take(apply(t, m, ReserveProducers{1000}).Producer.ID, 1000)
	a := apply(t, m, InitProducer{Name: "a"}).Producer
	take(a.ID, 1)
	take(apply(t, m, ReserveProducers{1}).Producer.ID, 1)
	take(apply(t, m, InitProducer{Name: "b"}).Producer.ID, 1)
	require.Equal(t, NamedProducer{a.ID, a.Epoch + 1}, apply(t, m, InitProducer{Name: "a"}).Producer)

	// Only the holder of the current epoch may raise it.
	require.ErrorIs(t, apply(t, m, InitProducer{Name: "a", ID: a.ID, Epoch: a.Epoch}).Errors[0], wire.ErrProducerFenced)
	require.Equal(t, NamedProducer{a.ID, a.Epoch + 2}, apply(t, m, InitProducer{Name: "a", ID: a.ID, Epoch: a.Epoch + 1}).Producer)
	require.ErrorIs(t, apply(t, m, InitProducer{Name: "nobody", ID: a.ID, Epoch: 1}).Errors[0], wire.ErrProducerFenced)

	m.named["a"] = NamedProducer{a.ID, 1<<32 - 1}
	wrapped := apply(t, m, InitProducer{Name: "a"}).Producer
	take(wrapped.ID, 1)
	m.nextProducer = 1<<64 - 10
	require.Error(t, apply(t, m, ReserveProducers{100}).Errors[0])
}

func TestIndexMustGrow(t *testing.T) {
	m := NewMachine()
	apply(t, m, InitProducer{Name: "a"})
	hash := m.Hash()
	_, err := m.Apply(m.Applied(), Encode(InitProducer{Name: "a"}))
	require.Error(t, err)
	require.Equal(t, hash, m.Hash())
}

func TestUnknownCommandsStopTheMachine(t *testing.T) {
	for _, data := range [][]byte{nil, {1}, {99, 1}, {1, 3, 0}, {1, 1, 5, 1}} {
		m := NewMachine()
		_, err := m.Apply(1, data)
		require.ErrorIs(t, err, errMalformed, "%x", data)
		require.Zero(t, m.Applied())
	}
}

// A config with a field that this version does not know must still be read.
func TestLaterFieldsAreIgnored(t *testing.T) {
	config := wire.DefaultTopicConfig()
	sized := appendConfig(nil, &config)
	d := &decoder{b: sized}
	body := append(slices.Clone(d.bytes()), "new field"...)
	d = &decoder{b: appendBytes(nil, body)}
	require.Equal(t, config, d.config())
	require.NoError(t, d.err)

	short := &decoder{b: appendBytes(nil, body[:4])}
	short.config()
	require.ErrorIs(t, short.err, errMalformed, "the fields of the first version are not optional")
}

func drawCommand(t *rapid.T, m *Machine) Command {
	ids := rapid.Custom(func(t *rapid.T) wire.UUID { return wire.UUID{15: rapid.ByteRange(1, 9).Draw(t, "id"), 0: 1} })
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		c := CreateTopics{}
		for range rapid.IntRange(0, 3).Draw(t, "topics") {
			c.Topics = append(c.Topics, testTopic(
				rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name"),
				rapid.ByteRange(1, 9).Draw(t, "id"), rapid.IntRange(1, 5).Draw(t, "partitions")))
		}
		return c
	case 1:
		config := wire.DefaultTopicConfig()
		config.RetentionBytes = rapid.Uint64().Draw(t, "bytes")
		return AlterTopic{ids.Draw(t, "topic"), rapid.Uint32Range(0, 2).Draw(t, "version"), config}
	case 2:
		return DeleteTopics{rapid.SliceOfN(ids, 0, 3).Draw(t, "topics")}
	case 3:
		return ReserveProducers{rapid.Uint32Range(0, 10).Draw(t, "count")}
	case 4, 5, 6, 7:
		return drawClusterCommand(t)
	}
	return InitProducer{
		Name:  rapid.SampledFrom([]string{"p", "q", ""}).Draw(t, "name"),
		ID:    rapid.Uint64Range(0, 3).Draw(t, "id"),
		Epoch: rapid.Uint32Range(0, 3).Draw(t, "epoch"),
	}
}

// Live state equals replay, from the start and from any snapshot.
func TestReplayEqualsLive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, restored := NewMachine(), NewMachine()
		var commands [][]byte
		cut := rapid.IntRange(0, 20).Draw(t, "snapshot after")
		for i := range rapid.IntRange(1, 30).Draw(t, "commands") {
			data := Encode(drawCommand(t, live))
			if id := rapid.ByteRange(0, 9).Draw(t, "request"); id > 0 {
				data = wrap(RequestID{id}, data)
			}
			commands = append(commands, data)
			before := copyPartitions(live)
			_, err := live.Apply(uint64(i+1), data)
			require.NoError(t, err)
			checkEpochs(t, before, live)
			if i == cut {
				require.NoError(t, restored.Restore(live.Snapshot()))
			}
			checkMachine(t, live)
		}
		for i, data := range commands {
			if uint64(i+1) > restored.Applied() {
				_, err := restored.Apply(uint64(i+1), data)
				require.NoError(t, err)
			}
		}
		require.Equal(t, live.Hash(), restored.Hash())
		require.Equal(t, live, restored)
	})
}

func copyPartitions(m *Machine) map[wire.UUID][]Partition {
	all := map[wire.UUID][]Partition{}
	for t := range m.Topics() {
		all[t.ID] = slices.Clone(t.Partitions)
	}
	return all
}

// checkEpochs checks a step: epochs and set versions never fall, an epoch has one leader for
// good, and a set changes only with the epoch.
func checkEpochs(t require.TestingT, before map[wire.UUID][]Partition, m *Machine) {
	for topic := range m.Topics() {
		for i, old := range before[topic.ID] {
			now := topic.Partitions[i]
			require.GreaterOrEqual(t, now.Epoch, old.Epoch)
			require.GreaterOrEqual(t, now.Set.Version, old.Set.Version)
			if now.Epoch == old.Epoch {
				require.Equal(t, old.Set, now.Set)
				require.True(t, now.Leader == old.Leader || old.Leader == (replication.Member{}))
			}
			if now.Leader != (replication.Member{}) && now.Leader != old.Leader {
				require.Contains(t, append(slices.Clone(now.Set.Members), now.Set.Joining...), now.Leader)
			}
		}
	}
}

// checkMachine checks what must hold in every state.
func checkMachine(t require.TestingT, m *Machine) {
	partitions := 0
	require.Len(t, m.byID, len(m.topics))
	for name, topic := range m.topics {
		require.Equal(t, name, topic.Name)
		require.Same(t, topic, m.byID[topic.ID])
		partitions += len(topic.Partitions)
	}
	require.Equal(t, partitions, m.partitions)
	ids := map[uint64]bool{}
	for _, p := range m.named {
		require.Less(t, p.ID, m.nextProducer)
		require.False(t, ids[p.ID])
		ids[p.ID] = true
	}
	disks := map[uint32]bool{}
	for node, b := range m.brokers {
		require.Equal(t, node, b.Node)
		require.False(t, disks[b.Disk])
		require.Less(t, b.Disk, m.nextDisk)
		disks[b.Disk] = true
	}
}

func TestHashSeesEveryPart(t *testing.T) {
	build := func(change func(*Machine)) uint64 {
		m := NewMachine()
		apply(t, m, CreateTopics{[]*Topic{testTopic("a", 1, 2)}})
		apply(t, m, InitProducer{Name: "p"})
		change(m)
		return m.Hash()
	}
	hashes := map[uint64]int{}
	for i, change := range []func(*Machine){
		func(*Machine) {},
		func(m *Machine) { m.applied++ },
		func(m *Machine) { m.nextProducer++ },
		func(m *Machine) { m.named["q"] = NamedProducer{} },
		func(m *Machine) { m.deleted[wire.UUID{7}] = 1 },
		func(m *Machine) { m.topics["a"].Version++ },
		func(m *Machine) { m.topics["a"].Partitions[1].Epoch++ },
		func(m *Machine) { m.topics["a"].Partitions[1].Set.Members = []replication.Member{{Node: 2, Disk: 1}} },
		func(m *Machine) { m.topics["a"].Config.MaxBatchBytes++ },
		func(m *Machine) { m.topics["a"].Partitions[1].Leader.Disk++ },
		func(m *Machine) { m.topics["a"].Partitions[1].Set.Version++ },
		func(m *Machine) { m.topics["a"].Partitions[1].Set.Joining = []replication.Member{{Node: 2, Disk: 1}} },
		func(m *Machine) { m.topics["a"].Partitions[1].Set.Learners = []replication.Member{{Node: 2, Disk: 1}} },
		func(m *Machine) { m.nextDisk++ },
		func(m *Machine) { m.removed = [][16]byte{{1}} },
		func(m *Machine) { m.brokers[1] = Broker{Node: 1, Disk: 1} },
		func(m *Machine) { m.brokers[1] = Broker{Node: 1, Disk: 1, Draining: true} },
		func(m *Machine) { m.brokers[1] = Broker{Node: 1, Disk: 1, Voter: true} },
		func(m *Machine) { m.answered.add(RequestID{1}, Result{}) },
	} {
		other, seen := hashes[build(change)]
		require.False(t, seen, "changes %d and %d have one hash", i, other)
		hashes[build(change)] = i
	}
	require.Len(t, slices.Collect(maps.Keys(hashes)), 19)
}

func FuzzApply(f *testing.F) {
	config := wire.DefaultTopicConfig()
	config.Splits = [][]byte{[]byte("m")}
	for _, c := range []Command{
		CreateTopics{[]*Topic{testTopic("a", 1, 2), testTopic("b", 2, 1)}},
		AlterTopic{wire.UUID{15: 1, 0: 1}, 0, config},
		DeleteTopics{[]wire.UUID{{15: 1, 0: 1}}},
		PurgeTopics{[]wire.UUID{{15: 1, 0: 1}}},
		ReserveProducers{10},
		InitProducer{Name: "name"},
		InitProducer{Name: "name", ID: 7, Epoch: 3},
		RegisterBroker{testBroker(1, 1)},
		RemoveBroker{1},
		SetBroker{1, true},
		SetVoter{member(1, 1), true},
		ImportState{NewMachine().Snapshot()},
		BeginEpochs{[]BeginEpoch{{wire.UUID{15: 1, 0: 1}, 0, 1, &replication.ReplicaSet{Members: []replication.Member{member(1, 1)}}}}},
		ElectLeaders{[]ElectLeader{{wire.UUID{15: 1, 0: 1}, 0, 1, member(1, 1)}}},
	} {
		f.Add(Encode(c))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := NewMachine()
		apply(t, m, CreateTopics{[]*Topic{testTopic("x", 1, 2)}})
		if _, err := m.Apply(2, data); err != nil {
			return
		}
		checkMachine(t, m)
		c, err := Decode(data)
		require.NoError(t, err)
		again, err := Decode(Encode(c))
		require.NoError(t, err)
		require.Equal(t, c, again)
		restored := NewMachine()
		require.NoError(t, restored.Restore(m.Snapshot()))
		require.Equal(t, m.Hash(), restored.Hash())
	})
}

func FuzzRestore(f *testing.F) {
	m := NewMachine()
	f.Add(m.Snapshot())
	apply(f, m, CreateTopics{[]*Topic{testTopic("a", 1, 2), testTopic("b", 2, 1)}})
	apply(f, m, InitProducer{Name: "p"})
	apply(f, m, RegisterBroker{testBroker(1, 1)})
	_, err := m.Apply(m.Applied()+1, wrap(RequestID{1}, Encode(RegisterBroker{testBroker(2, 2)})))
	require.NoError(f, err)
	f.Add(m.Snapshot())
	f.Fuzz(func(t *testing.T, data []byte) {
		m := NewMachine()
		if err := m.Restore(data); err != nil {
			require.Equal(t, NewMachine(), m)
			return
		}
		again := NewMachine()
		require.NoError(t, again.Restore(m.Snapshot()))
		require.Equal(t, m.Hash(), again.Hash())
	})
}

func BenchmarkApplyCreate(b *testing.B) {
	for _, shape := range []struct{ topics, partitions int }{{1, 10_000}, {10_000, 1}} {
		b.Run(fmt.Sprintf("topics=%d,partitions=%d", shape.topics, shape.partitions), func(b *testing.B) {
			c := CreateTopics{}
			for i := range shape.topics {
				t := testTopic(fmt.Sprintf("topic-%d", i), 0, shape.partitions)
				le.PutUint32(t.ID[4:], uint32(i))
				c.Topics = append(c.Topics, t)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, err := NewMachine().Apply(1, Encode(c))
				require.NoError(b, err)
			}
		})
	}
}
