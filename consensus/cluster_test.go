package consensus

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

func member(node, disk uint32) replication.Member { return replication.Member{Node: node, Disk: disk} }

func testBroker(node uint32, disk byte) Broker {
	return Broker{
		Node: node, DiskUUID: [16]byte{disk}, Addr: fmt.Sprint("client:", node), ClusterAddr: fmt.Sprint("cluster:", node),
		Rack: "r", Version: "v", Session: uint64(disk) << 32,
	}
}

// clusterTopic has partitions on three brokers, without leaders.
func clusterTopic(name string, id byte, partitions int) *Topic {
	t := testTopic(name, id, partitions)
	for i := range t.Partitions {
		t.Partitions[i] = Partition{Set: replication.ReplicaSet{Members: []replication.Member{member(1, 1), member(2, 2), member(3, 3)}}}
	}
	return t
}

func register(t testing.TB, m *Machine, node uint32, disk byte) Broker {
	t.Helper()
	r := apply(t, m, RegisterBroker{testBroker(node, disk)})
	require.NoError(t, r.Errors[0])
	return r.Broker
}

func TestDisksGetNumbersThatAreNeverReused(t *testing.T) {
	m := NewMachine()
	require.EqualValues(t, 1, register(t, m, 7, 1).Disk)
	require.EqualValues(t, 2, register(t, m, 8, 2).Disk)

	again := testBroker(7, 1)
	again.Session, again.Voter = 99, true
	r := apply(t, m, RegisterBroker{again})
	require.EqualValues(t, 1, r.Broker.Disk)
	require.False(t, r.Broker.Voter, "registering again does not make a voter")
	require.Equal(t, []Change{{Kind: BrokersChanged, Brokers: []uint32{7}}}, r.Changes)
	require.Empty(t, apply(t, m, RegisterBroker{again}).Changes, "nothing new")

	apply(t, m, SetBroker{Node: 7, Draining: true})
	require.True(t, apply(t, m, RegisterBroker{again}).Broker.Draining, "a restart does not end draining")
	wiped := register(t, m, 7, 3)
	require.EqualValues(t, 3, wiped.Disk, "a wiped disk is a new one")
	require.False(t, wiped.Draining)
	late := apply(t, m, RegisterBroker{testBroker(7, 1)})
	require.ErrorIs(t, late.Errors[0], wire.ErrInvalidConfig, "the old one does not come back, least of all by a command that is late")
	require.EqualValues(t, 3, register(t, m, 7, 3).Disk)

	copied := apply(t, m, RegisterBroker{testBroker(9, 2)})
	require.ErrorIs(t, copied.Errors[0], wire.ErrInvalidConfig, "a disk belongs to one node")
	_, there := m.Broker(9)
	require.False(t, there)
	require.Len(t, m.Brokers(), 2)
	require.Less(t, m.Brokers()[0].Node, m.Brokers()[1].Node)
}

func TestVotersAreTiedToTheirDisk(t *testing.T) {
	m := NewMachine()
	b := register(t, m, 1, 1)
	require.True(t, apply(t, m, SetVoter{b.Member(), true}).Broker.Voter)
	require.Empty(t, apply(t, m, SetVoter{b.Member(), true}).Changes)
	register(t, m, 1, 2)
	require.ErrorIs(t, apply(t, m, SetVoter{b.Member(), true}).Errors[0], ErrChanged)
	require.ErrorIs(t, apply(t, m, SetVoter{member(9, 1), true}).Errors[0], ErrChanged)
	require.ErrorIs(t, apply(t, m, SetBroker{Node: 9}).Errors[0], ErrChanged)
	now, _ := m.Broker(1)
	require.False(t, now.Voter)
}

func TestBrokersInUseAreNotRemoved(t *testing.T) {
	m := NewMachine()
	for node := range uint32(5) {
		register(t, m, node+1, byte(node+1))
	}
	topic := clusterTopic("a", 1, 2)
	topic.Partitions[1].Set.Joining = []replication.Member{member(1, 1), member(4, 77)} // a former disk counts too
	topic.Partitions[1].Set.Learners = []replication.Member{member(5, 5)}
	apply(t, m, CreateTopics{[]*Topic{topic}})
	for node := range uint32(5) {
		require.ErrorIs(t, apply(t, m, RemoveBroker{node + 1}).Errors[0], wire.ErrInvalidRequest, "%d", node+1)
	}
	apply(t, m, DeleteTopics{[]wire.UUID{topic.ID}})
	r := apply(t, m, RemoveBroker{4})
	require.NoError(t, r.Errors[0])
	require.Equal(t, []Change{{Kind: BrokersChanged, Brokers: []uint32{4}}}, r.Changes)
	require.Empty(t, apply(t, m, RemoveBroker{4}).Changes, "twice is no error")
	require.ErrorIs(t, apply(t, m, RegisterBroker{testBroker(4, 4)}).Errors[0], wire.ErrInvalidConfig, "it does not come back by itself")
	require.EqualValues(t, 6, register(t, m, 4, 44).Disk)
}

func TestEpochsAndLeaders(t *testing.T) {
	m := NewMachine()
	topic := clusterTopic("a", 1, 3)
	apply(t, m, CreateTopics{[]*Topic{topic}})
	begin := func(partition, seen uint32, set *replication.ReplicaSet) Result {
		return apply(t, m, BeginEpochs{[]BeginEpoch{{topic.ID, partition, seen, set}}})
	}
	elect := func(partition, epoch uint32, leader replication.Member) Result {
		return apply(t, m, ElectLeaders{[]ElectLeader{{topic.ID, partition, epoch, leader}}})
	}
	current := func(i int) Partition { now, _ := m.TopicByID(topic.ID); return now.Partitions[i] }

	require.ErrorIs(t, elect(0, 0, member(1, 1)).Errors[0], ErrChanged, "nothing is led before the first epoch")
	require.NoError(t, begin(0, 0, nil).Errors[0])
	require.ErrorIs(t, begin(0, 0, nil).Errors[0], ErrChanged, "only the epoch that was seen is ended")
	require.ErrorIs(t, elect(0, 0, member(1, 1)).Errors[0], ErrChanged)
	require.ErrorIs(t, elect(0, 2, member(1, 1)).Errors[0], ErrChanged)
	require.ErrorIs(t, elect(0, 1, member(1, 9)).Errors[0], wire.ErrInvalidRequest, "another disk is another replica")
	require.NoError(t, elect(0, 1, member(2, 2)).Errors[0])
	require.ErrorIs(t, elect(0, 1, member(1, 1)).Errors[0], ErrChanged, "one leader per epoch")
	require.NoError(t, elect(0, 1, member(2, 2)).Errors[0], "the same one is no other")
	require.Equal(t, Partition{Leader: member(2, 2), Epoch: 1, Set: topic.Partitions[0].Set}, current(0))

	// Changing the set voids the leader; learners cannot lead, those that join can.
	set := replication.ReplicaSet{Version: 77, Members: []replication.Member{member(1, 1)},
		Joining: []replication.Member{member(4, 4)}, Learners: []replication.Member{member(5, 5)}}
	require.NoError(t, begin(0, 1, &set).Errors[0])
	require.EqualValues(t, 1, current(0).Set.Version)
	require.Equal(t, set.Joining, current(0).Set.Joining)
	require.Zero(t, current(0).Leader)
	require.ErrorIs(t, elect(0, 2, member(2, 2)).Errors[0], wire.ErrInvalidRequest)
	require.ErrorIs(t, elect(0, 2, member(5, 5)).Errors[0], wire.ErrInvalidRequest)
	require.NoError(t, elect(0, 2, member(4, 4)).Errors[0])
	require.ErrorIs(t, begin(0, 2, &replication.ReplicaSet{}).Errors[0], wire.ErrInvalidRequest)
	require.Equal(t, []uint32{1, 4, 5}, new(current(0)).Nodes())

	require.ErrorIs(t, begin(3, 0, nil).Errors[0], wire.ErrUnknownPartition)
	require.ErrorIs(t, apply(t, m, BeginEpochs{[]BeginEpoch{{Topic: wire.UUID{9}}}}).Errors[0], wire.ErrUnknownTopic)
	require.Zero(t, topic.Partitions[0].Epoch, "a published topic does not change")
}

func TestItemsAreJudgedOnTheirOwn(t *testing.T) {
	m := NewMachine()
	a, b := clusterTopic("a", 1, 100), clusterTopic("b", 2, 2)
	apply(t, m, CreateTopics{[]*Topic{a, b}})
	r := apply(t, m, BeginEpochs{[]BeginEpoch{
		{b.ID, 1, 0, nil}, {a.ID, 99, 0, nil}, {a.ID, 5, 7, nil}, {a.ID, 3, 0, nil}, {wire.UUID{9}, 0, 0, nil}, {b.ID, 1, 1, nil},
	}})
	require.Equal(t, []error{nil, nil, ErrChanged, nil, wire.ErrUnknownTopic, nil}, r.Errors)
	require.Len(t, r.Changes, 2)
	require.Equal(t, PartitionsChanged, r.Changes[0].Kind)
	require.Equal(t, []uint32{1}, r.Changes[0].Partitions)
	require.EqualValues(t, 2, r.Changes[0].Topic.Partitions[1].Epoch)
	require.Equal(t, []uint32{3, 99}, r.Changes[1].Partitions)
	now, _ := m.Topic("a")
	require.Same(t, now, r.Changes[1].Topic)
}

func TestImportState(t *testing.T) {
	old := NewMachine()
	for range 5 {
		apply(t, old, ReserveProducers{1000})
	}
	apply(t, old, CreateTopics{[]*Topic{testTopic("a", 1, 2), testTopic("b", 2, 1)}})
	apply(t, old, DeleteTopics{[]wire.UUID{{15: 2, 0: 1}}})
	apply(t, old, InitProducer{Name: "p"})

	m := NewMachine()
	require.EqualValues(t, 1, register(t, m, 1, 1).Disk)
	require.ErrorIs(t, apply(t, m, ImportState{[]byte("damaged")}).Errors[0], wire.ErrInvalidRequest)
	r := apply(t, m, ImportState{old.Snapshot()})
	require.NoError(t, r.Errors[0])
	require.Len(t, r.Changes, 1)
	topic, _ := m.Topic("a")
	require.Equal(t, TopicCreated, r.Changes[0].Kind)
	require.Same(t, topic, r.Changes[0].Topic)
	b, _ := m.Broker(1)
	require.Equal(t, b.Member(), topic.Partitions[0].Leader, "the founder holds what the standalone broker held")
	require.Equal(t, old.named, m.named)
	require.Equal(t, old.deleted, m.deleted)
	require.Equal(t, old.nextProducer, m.nextProducer)
	require.EqualValues(t, 3, m.Applied(), "the index is the cluster's own")
	checkMachine(t, m)
	require.ErrorIs(t, apply(t, m, ImportState{old.Snapshot()}).Errors[0], wire.ErrTopicExists)
}

// What version 1 wrote is read: a snapshot and a command, made by hand.
func TestVersion1IsRead(t *testing.T) {
	config := wire.DefaultTopicConfig()
	topic := appendSized(nil, func(dst []byte) []byte {
		id := wire.UUID{5}
		dst = append(dst, id[:]...)
		dst = appendBytes(dst, "old")
		dst = le.AppendUint32(dst, 3)
		dst = appendConfig(dst, &config)
		dst = appendCount(dst, 1)
		for _, v := range []uint32{4, 1, 0} { // leader, epoch, version
			dst = le.AppendUint32(dst, v)
		}
		return le.AppendUint32(appendCount(dst, 1), 4)
	})
	want := aloneOn(4)
	check := func(m *Machine) {
		t.Helper()
		got, ok := m.Topic("old")
		require.True(t, ok)
		require.Equal(t, []Partition{want}, got.Partitions)
	}
	m := NewMachine()
	_, err := m.Apply(1, append([]byte{byte(kindCreateTopics), 1, 1}, topic...))
	require.NoError(t, err)
	check(m)

	snapshot := le.AppendUint64(le.AppendUint64([]byte{1}, 9), 1001)
	snapshot = append(appendCount(appendCount(snapshot, 0), 1), topic...)
	m = NewMachine()
	require.NoError(t, m.Restore(appendCount(snapshot, 0)))
	check(m)
	require.EqualValues(t, 9, m.Applied())
	require.EqualValues(t, 1, m.nextDisk)
}

func TestARequestIsCarriedOutOnce(t *testing.T) {
	m := NewMachine()
	id := RequestID{1}
	data := wrap(id, Encode(ReserveProducers{10}))
	first, err := m.Apply(1, data)
	require.NoError(t, err)
	again, err := m.Apply(2, data)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.EqualValues(t, 11, m.nextProducer)

	restored := NewMachine()
	require.NoError(t, restored.Restore(m.Snapshot()))
	require.Equal(t, m, restored)
	again, err = restored.Apply(3, data)
	require.NoError(t, err)
	require.Equal(t, first, again, "a snapshot remembers it too")

	for i := range rememberedRequests + 10 {
		_, err := m.Apply(m.Applied()+1, wrap(RequestID{2, byte(i), byte(i >> 8)}, Encode(ReserveProducers{1})))
		require.NoError(t, err)
	}
	require.Len(t, m.answered.order, rememberedRequests)
	require.Len(t, m.answered.byID, rememberedRequests)
	_, remembered := m.answered.find(id)
	require.False(t, remembered, "what is remembered is bounded")
}

func TestRememberedResultsAreBoundedInBytes(t *testing.T) {
	m := NewMachine()
	for i := range byte(30) {
		c := DeleteTopics{IDs: make([]wire.UUID, 10_000)} // as many refusals
		_, err := m.Apply(m.Applied()+1, wrap(RequestID{1, i}, Encode(c)))
		require.NoError(t, err)
		require.Less(t, m.answered.bytes, rememberedBytes+1<<20)
	}
	total := 0
	for _, data := range m.answered.byID {
		total += len(data)
	}
	require.Equal(t, m.answered.bytes, total)
	require.Len(t, m.answered.order, len(m.answered.byID))
	require.NotEmpty(t, m.answered.order)
}

func TestResultsSurviveEncoding(t *testing.T) {
	for _, r := range []Result{
		{},
		{Errors: []error{nil, wire.Errorf(wire.CodeTopicExists, "there"), wire.ErrUnknownTopic, ErrChanged, fmt.Errorf("alter: %w", ErrChanged)}},
		{Errors: []error{nil}, Producer: NamedProducer{5, 6}, Broker: testBroker(1, 2)},
	} {
		got, err := DecodeResult(EncodeResult(r))
		require.NoError(t, err)
		require.Len(t, got.Errors, len(r.Errors))
		for i := range r.Errors {
			if r.Errors[i] == nil {
				require.NoError(t, got.Errors[i])
				continue
			}
			require.EqualError(t, got.Errors[i], r.Errors[i].Error())
			require.ErrorIs(t, got.Errors[i], unwrapAll(r.Errors[i]))
		}
		require.Equal(t, r.Producer, got.Producer)
		require.Equal(t, r.Broker, got.Broker)
		require.Equal(t, EncodeResult(r), EncodeResult(got))
	}
}

func unwrapAll(err error) error {
	if w, ok := err.(interface{ Unwrap() error }); ok {
		return unwrapAll(w.Unwrap())
	}
	return err
}

func FuzzDecodeResult(f *testing.F) {
	f.Add(EncodeResult(Result{Errors: []error{nil, ErrChanged, wire.ErrUnknownTopic}, Producer: NamedProducer{1, 2}, Broker: testBroker(1, 1)}))
	f.Add(EncodeResult(Result{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := DecodeResult(data)
		if err != nil {
			return
		}
		again, err := DecodeResult(EncodeResult(r))
		require.NoError(t, err)
		require.Equal(t, EncodeResult(r), EncodeResult(again))
	})
}

func drawMember(t *rapid.T) replication.Member {
	return member(rapid.Uint32Range(1, 4).Draw(t, "node"), rapid.Uint32Range(1, 5).Draw(t, "disk"))
}

func drawClusterCommand(t *rapid.T) Command {
	topic := wire.UUID{15: rapid.ByteRange(1, 9).Draw(t, "topic"), 0: 1}
	partition := rapid.Uint32Range(0, 5).Draw(t, "partition")
	epoch := rapid.Uint32Range(0, 3).Draw(t, "epoch")
	switch rapid.IntRange(0, 6).Draw(t, "cluster kind") {
	case 0:
		b := testBroker(rapid.Uint32Range(1, 4).Draw(t, "node"), rapid.ByteRange(1, 5).Draw(t, "disk"))
		b.Session = rapid.Uint64Range(0, 3).Draw(t, "session")
		return RegisterBroker{b}
	case 1:
		return RemoveBroker{rapid.Uint32Range(1, 4).Draw(t, "node")}
	case 2:
		return SetBroker{rapid.Uint32Range(1, 4).Draw(t, "node"), rapid.Bool().Draw(t, "draining")}
	case 3:
		return SetVoter{drawMember(t), rapid.Bool().Draw(t, "voter")}
	case 4:
		c := BeginEpochs{}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			item := BeginEpoch{Topic: topic, Partition: partition, Seen: epoch}
			if rapid.Bool().Draw(t, "set") {
				item.Set = &replication.ReplicaSet{Members: []replication.Member{drawMember(t)}}
			}
			c.Items = append(c.Items, item)
		}
		return c
	case 5:
		return ImportState{NewMachine().Snapshot()}
	}
	return ElectLeaders{[]ElectLeader{{topic, partition, epoch, drawMember(t)}}}
}
