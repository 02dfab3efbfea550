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
		Self: uint32(best + 1), Epoch: c.epoch, Set: ReplicaSet{Members: []uint32{1, 2, 3}},
		EpochStart: int64(len(log)), End: int64(len(log)),
	})
	if err != nil {
		return err
	}
	c.breakRule(l)
	c.leader, c.self = l, best
	return c.append() // the start record
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
	if _, err := c.leader.Report(uint32(i+1), c.epoch, int64(len(log))); err != nil {
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
		"counting old epochs": func(l *Leader) { l.countOldEpochs = true },
		"a quorum of one":     func(l *Leader) { l.sets[0] = l.sets[0][:1] },
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
		ids := rapid.Permutation([]uint32{1, 2, 3, 4, 5, 6, 7}).Draw(t, "ids")
		set := ReplicaSet{Members: ids[:rapid.IntRange(1, 5).Draw(t, "members")]}
		if rapid.Bool().Draw(t, "joint") {
			set.Joining = rapid.Permutation(ids).Draw(t, "joining")[:rapid.IntRange(1, 5).Draw(t, "n")]
		}
		start := rapid.Int64Range(0, 5).Draw(t, "start")
		hw := rapid.Int64Range(0, start).Draw(t, "hw")
		l, err := NewLeader(LeaderConfig{Self: ids[0], Epoch: 3, Set: set, EpochStart: start, End: start, HighWatermark: hw})
		require.NoError(t, err)
		reported := map[uint32]int64{}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "append") == 0 {
				require.NoError(t, l.Appended(l.End()+rapid.Int64Range(0, 4).Draw(t, "by")))
			}
			id := rapid.SampledFrom(ids).Draw(t, "id")
			epoch := rapid.SampledFrom([]uint32{3, 3, 3, 2, 4}).Draw(t, "epoch")
			durable := rapid.Int64Range(0, l.End()).Draw(t, "durable")
			before := l.HighWatermark()
			advanced, err := l.Report(id, epoch, durable)
			require.NoError(t, err)
			if epoch == 3 {
				reported[id] = max(reported[id], durable)
			}
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

func majorityHas(set []uint32, reported map[uint32]int64, end int64) bool {
	n := 0
	for _, id := range set {
		if reported[id] >= end {
			n++
		}
	}
	return n > len(set)/2
}

func TestLeaderDoesNotAllocate(t *testing.T) {
	l, err := NewLeader(LeaderConfig{Self: 1, Epoch: 1, Set: ReplicaSet{Members: []uint32{1, 2, 3, 4, 5}}})
	require.NoError(t, err)
	end := int64(0)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		end++
		if l.Appended(end) != nil {
			t.Fatal("append")
		}
		for id := range uint32(5) {
			if _, err := l.Report(id+1, 1, end); err != nil {
				t.Fatal(err)
			}
		}
	}))
	require.Equal(t, end, l.HighWatermark())
}

func BenchmarkReport(b *testing.B) {
	for _, n := range []int{1, 3} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, err := NewLeader(LeaderConfig{Self: 1, Epoch: 1, Set: ReplicaSet{Members: []uint32{1, 2, 3}[:n]}})
			require.NoError(b, err)
			b.ReportAllocs()
			for end := int64(1); b.Loop(); end++ {
				if l.Appended(end) != nil {
					b.Fatal("append")
				}
				if _, err := l.Report(uint32(end%int64(n))+1, 1, end); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
