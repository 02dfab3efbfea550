package replication

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// cluster is three nodes whose logs are lists of epochs, all of it fsynced, with
// elections by the rule of the design: greatest (epoch of last record, end) of any
// majority. It checks that what a Leader committed stays.
type cluster struct {
	rng       *rand.Rand
	logs      [3][]uint32
	epoch     uint32
	leader    *Leader
	self      int
	committed []uint32
	breakRule func(*Leader)
}

func (c *cluster) elect() error {
	c.epoch++
	absent := c.rng.IntN(3)
	best := -1
	for i, log := range c.logs {
		if i == absent {
			continue
		}
		if best < 0 || last(log) > last(c.logs[best]) || last(log) == last(c.logs[best]) && len(log) > len(c.logs[best]) {
			best = i
		}
	}
	log := c.logs[best]
	if len(log) < len(c.committed) || !slices.Equal(log[:len(c.committed)], c.committed) {
		return fmt.Errorf("epoch %d: node %d leads with log %v, committed was %v", c.epoch, best, log, c.committed)
	}
	l, err := NewLeader(LeaderConfig{
		Self: member1(best + 1), Epoch: c.epoch, Set: ReplicaSet{Members: members(1, 2, 3)},
		Epochs: epochsOf(log), End: int64(len(log)),
	})
	if err != nil {
		return err
	}
	c.breakRule(l)
	c.leader, c.self = l, best
	return c.append() // the start record
}

func member1(node int) Member { return Member{Node: uint32(node)} }

func members(nodes ...int) (set []Member) {
	for _, n := range nodes {
		set = append(set, member1(n))
	}
	return set
}

// epochsOf is the history of a log given as the epochs of its records.
func epochsOf(log []uint32) (epochs []EpochStart) {
	for i, e := range log {
		if i == 0 || log[i-1] != e {
			epochs = append(epochs, EpochStart{e, int64(i)})
		}
	}
	return epochs
}

// tell reports to a leader that a member holds its log up to an offset, fsynced.
func tell(l *Leader, m Member, epoch uint32, durable int64) error {
	if m == l.self {
		_, err := l.ReportSelf(durable)
		return err
	}
	_, err := l.Fetch(Fetch{From: m, Epoch: epoch, Offset: durable, LastEpoch: l.history.before(durable), Durable: durable})
	return err
}

func last(log []uint32) uint32 {
	if len(log) == 0 {
		return 0
	}
	return log[len(log)-1]
}

func (c *cluster) append() error {
	c.logs[c.self] = append(slices.Clip(c.logs[c.self]), c.epoch)
	return c.leader.Appended(int64(len(c.logs[c.self])))
}

// follow lets node i copy one more record of the leader, after cutting off what differs.
func (c *cluster) follow(i int) error {
	log, from := c.logs[i], c.logs[c.self]
	if i != c.self {
		same := 0
		for same < len(log) && same < len(from) && log[same] == from[same] {
			same++
		}
		log = log[:same]
		if same < len(from) {
			log = append(slices.Clip(log), from[same])
		}
		c.logs[i] = log
	}
	if err := tell(c.leader, member1(i+1), c.epoch, int64(len(log))); err != nil {
		return err
	}
	hw := c.leader.HighWatermark()
	if hw < int64(len(c.committed)) {
		return nil // a new leader does not know yet
	}
	c.committed = slices.Clone(from[:hw])
	return nil
}

func (c *cluster) run(steps int) error {
	err := c.elect()
	for range steps {
		if err != nil {
			return err
		}
		switch r := c.rng.IntN(10); {
		case r < 2:
			err = c.elect()
		case r < 4:
			err = c.append()
		default:
			err = c.follow(c.rng.IntN(3))
		}
	}
	return err
}

func simulate(seed uint64, breakRule func(*Leader)) error {
	c := &cluster{rng: rand.New(rand.NewPCG(seed, 2)), breakRule: breakRule}
	return c.run(200)
}

func TestCommittedRecordsSurviveElections(t *testing.T) {
	for seed := range uint64(1000) {
		require.NoError(t, simulate(seed, func(*Leader) {}), "seed %d", seed)
	}
}

func TestTeeth(t *testing.T) {
	for name, breakRule := range map[string]func(*Leader){
		"counting old epochs": func(l *Leader) { l.breaks.CountOldEpochs = true },
		"a quorum of one":     func(l *Leader) { l.quorum.sets[0] = l.quorum.sets[0][:1] },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(1000) {
				if err := simulate(seed, breakRule); err != nil {
					t.Logf("caught at seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("the rule is off and nothing noticed")
		})
	}
}

// The high watermark against the definition, for any sets and any order of reports.
func TestCommitAgainstDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.Permutation(members(1, 2, 3, 4, 5, 6, 7)).Draw(t, "ids")
		set := ReplicaSet{Members: ids[:rapid.IntRange(1, 5).Draw(t, "members")]}
		if rapid.Bool().Draw(t, "joint") {
			set.Joining = rapid.Permutation(ids).Draw(t, "joining")[:rapid.IntRange(1, 5).Draw(t, "n")]
		}
		for _, m := range ids {
			if !set.IsVoter(m) && rapid.Bool().Draw(t, "learner") {
				set.Learners = append(set.Learners, m)
			}
		}
		start := rapid.Int64Range(0, 5).Draw(t, "start")
		hw := rapid.Int64Range(0, start).Draw(t, "hw")
		config := LeaderConfig{Self: ids[0], Epoch: 3, Set: set, End: start, HighWatermark: hw}
		if start > 0 {
			config.Epochs = []EpochStart{{2, 0}}
		}
		l, err := NewLeader(config)
		require.NoError(t, err)
		reported := map[Member]int64{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "append") == 0 {
				require.NoError(t, l.Appended(l.End()+rapid.Int64Range(0, 4).Draw(t, "by")))
			}
			id := rapid.SampledFrom(ids).Draw(t, "id")
			epoch := rapid.SampledFrom([]uint32{3, 3, 3, 2, 4}).Draw(t, "epoch")
			durable := rapid.Int64Range(0, l.End()).Draw(t, "durable")
			before, advanced := l.HighWatermark(), false
			if id == ids[0] {
				advanced, err = l.ReportSelf(durable)
				reported[id] = max(reported[id], durable)
			} else {
				f := Fetch{
					From: id, Epoch: epoch, Durable: durable + rapid.Int64Range(0, 3).Draw(t, "more"),
					Offset: durable, LastEpoch: l.history.before(durable),
				}
				differs := rapid.IntRange(0, 4).Draw(t, "differs") == 0
				if differs {
					f.LastEpoch = 1
				}
				var a Answer
				a, err = l.Fetch(f)
				advanced = a.Advanced
				if epoch == 3 && set.Has(id) && !differs {
					require.Equal(t, Answer{Kind: Send, Offset: durable, Advanced: advanced}, a)
					reported[id] = max(reported[id], durable)
				}
			}
			require.NoError(t, err)
			for o := start + 1; o <= l.End(); o++ { // o-1 is a record of this epoch
				if majorityHas(set.Members, reported, o) && (len(set.Joining) == 0 || majorityHas(set.Joining, reported, o)) {
					hw = max(hw, o)
				}
			}
			require.Equal(t, hw, l.HighWatermark())
			require.Equal(t, l.HighWatermark() > before, advanced)
		}
	})
}

func majorityHas(set []Member, reported map[Member]int64, end int64) bool {
	n := 0
	for _, id := range set {
		if reported[id] >= end {
			n++
		}
	}
	return n > len(set)/2
}

func TestHotCallsDoNotAllocate(t *testing.T) {
	set := ReplicaSet{Members: members(1, 2, 3), Joining: members(3, 4, 5), Learners: members(6)}
	l, f := pair(t, set)
	require.Zero(t, testing.AllocsPerRun(100, func() { step(t, l, f) }))
	require.Equal(t, l.End(), f.End())
}

// pair returns the leader on node 1 and the follower on node 2, in epoch 1.
func pair(t testing.TB, set ReplicaSet) (*Leader, *Replica) {
	l, err := NewLeader(LeaderConfig{Self: member1(1), Epoch: 1, Set: set})
	require.NoError(t, err)
	f, err := NewReplica(ReplicaConfig{Self: member1(2)})
	require.NoError(t, err)
	effect, err := f.Assign(1, member1(1), set)
	require.NoError(t, err)
	require.Equal(t, BecomeFollower, effect)
	return l, f
}

// step appends one record and moves it to the follower and back as a report.
func step(t testing.TB, l *Leader, r *Replica) {
	f := r.Follower()
	end := l.End() + 1
	err := l.Appended(end)
	if err == nil {
		_, err = l.ReportSelf(end)
	}
	a, err2 := l.Fetch(f.Next())
	if err != nil || err2 != nil || a.Kind != Send {
		t.Fatal(err, err2, a)
	}
	accept, err := f.Receive(l.Data(a.Offset, end))
	if err != nil || !accept || f.Appended(1, a.Offset, end) != nil || f.Durable(end) != nil {
		t.Fatal(err, accept)
	}
	if _, err = l.Fetch(f.Next()); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkReportSelf(b *testing.B) {
	l, err := NewLeader(LeaderConfig{Self: member1(1), Epoch: 1, Set: ReplicaSet{Members: members(1)}})
	require.NoError(b, err)
	b.ReportAllocs()
	for end := int64(1); b.Loop(); end++ {
		if l.Appended(end) != nil {
			b.Fatal("append")
		}
		if _, err := l.ReportSelf(end); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReplicate is one record from a leader to a follower and its report, at each
// of the two machines.
func BenchmarkReplicate(b *testing.B) {
	l, f := pair(b, ReplicaSet{Members: members(1, 2, 3)})
	b.ReportAllocs()
	for b.Loop() {
		step(b, l, f)
	}
}
