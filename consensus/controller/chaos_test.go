package controller

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/consensus"
)

// chaos lets a cluster live through faults drawn from a seed, then heals everything, and
// says what is wrong: a leader without a committed record, or something that did not
// come to rest.
func chaos(seed uint64, b Breakage) (w *world, err error) {
	rng := rand.New(rand.NewPCG(seed, 3))
	w = newWorld(Settings{Break: b, BalanceAfter: 3 * time.Second, ReplaceAfter: 4 * time.Second, MovesPerBroker: 2})
	w.stray = func() bool { return rng.IntN(3) == 0 }
	n := 3 + rng.IntN(3)
	for i := range n {
		w.start(uint32(i+1), []string{"", "a", "b"}[rng.IntN(3)])
	}
	w.run(20 * time.Millisecond)
	for _, name := range []string{"one", "two"} {
		if err := w.createTopic(name, 2, 1+rng.IntN(min(n, 4))); err != nil {
			return w, err
		}
	}
	for range 25 {
		w.misfortune(rng, n)
		w.run(time.Duration(rng.IntN(40)*rng.IntN(40)) * time.Millisecond)
		w.produce(rng)
	}
	w.heal()
	w.run(25 * time.Second)
	if len(w.problems) > 0 {
		return w, fmt.Errorf("%s", w.problems[0])
	}
	return w, w.atRest()
}

// misfortune does one thing that may happen to a cluster. Disks are lost one at a time,
// as the promise is about a minority.
func (w *world) misfortune(rng *rand.Rand, n int) {
	node := uint32(1 + rng.IntN(n))
	b := w.brokers[node]
	switch rng.IntN(14) {
	case 0, 1:
		w.kill(node)
	case 2, 3, 4:
		w.start(node, "")
		b.paused, b.away, b.slow = false, false, false
	case 5:
		b.paused = !b.paused
	case 6:
		b.away = !b.away
	case 7:
		b.slow = !b.slow
	case 8:
		w.change()
	case 9:
		if b.up && !b.paused && !b.away {
			b.up, b.registered = false, false
			w.start(node, "")
		}
	case 10:
		w.wipeSafely(node)
	case 11:
		w.raft = !w.raft
	case 12:
		w.alterReplication("one", 1+rng.IntN(n))
	case 13:
		actions := []Action{Rebalance, Drain, Cancel, MoveLeader}
		r := Request{Action: actions[rng.IntN(len(actions))], Node: node}
		if r.Action == MoveLeader {
			p := w.places()[0]
			r.Topic, r.Partition = p.topic, p.partition
		}
		if r.Action == Rebalance {
			r.Node = 0
		}
		w.order(r)
	}
}

// wipeSafely loses a disk if no set depends on it: whatever was committed must be on a
// majority of each without it.
func (w *world) wipeSafely(node uint32) {
	b := w.brokers[node]
	for _, p := range w.places() {
		meta := w.meta(p)
		if len(meta.Set.Members) < 3 || len(meta.Set.Joining) > 0 {
			return
		}
		for _, m := range meta.Set.Members {
			if m.Node != node && w.brokers[m.Node].member() != m {
				return // one is lost already
			}
		}
	}
	w.kill(node)
	w.newDisk(b)
}

func (w *world) produce(rng *rand.Rand) {
	for _, p := range w.places() {
		meta := w.meta(p)
		if b := w.holder(meta.Leader); b != nil && b.at(p).leads == meta.Epoch && rng.IntN(2) == 0 {
			b.at(p).log = append(b.at(p).log, meta.Epoch)
		}
	}
}

func (w *world) heal() {
	w.raft = true
	w.stray = nil
	for _, b := range w.nodes() {
		w.start(b.node, "")
		b.paused, b.away, b.slow = false, false, false
	}
	for _, b := range w.m.Brokers() {
		if b.Draining {
			w.do(consensus.SetBroker{Node: b.Node})
		}
	}
}

// atRest checks that every partition is led, by sets that are as wanted and on disks
// that are there, and that nothing goes on.
func (w *world) atRest() error {
	for _, t := range w.topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			name := fmt.Sprintf("%s/%d@%d led by %v of %s", t.Name, i, p.Epoch, p.Leader, describeSet(p.Set))
			if !w.serves(place{t.ID, uint32(i)}) {
				return fmt.Errorf("%s does not serve", name)
			}
			if len(p.Set.Joining)+len(p.Set.Learners) > 0 || len(p.Set.Members) != int(t.Config.ReplicationFactor) {
				return fmt.Errorf("%s is not the set of %d that is wanted", name, t.Config.ReplicationFactor)
			}
			for _, m := range p.Set.Members {
				if w.holder(m) == nil {
					return fmt.Errorf("%s: %v is not there", name, m)
				}
			}
		}
	}
	begun := w.begun
	w.run(5 * time.Second)
	if w.begun != begun {
		return fmt.Errorf("%d epochs were begun in peace", w.begun-begun)
	}
	return nil
}

var seeds = flag.Int("seeds", 60, "seeds of TestChaos")

func TestChaos(t *testing.T) {
	for seed := range uint64(*seeds) {
		w, err := chaos(seed, Breakage{})
		if err != nil {
			t.Log("last events:\n" + tail(w.lines, 60))
			require.NoError(t, err, "seed %d", seed)
		}
	}
}

func tail(lines []string, n int) (text string) {
	for _, l := range lines[max(0, len(lines)-n):] {
		text += l + "\n"
	}
	return text
}

// Rules whose breaking loses what was committed, or leaves partitions without a leader,
// are found by chaos. The search begins where it was found last.
func TestChaosHasTeeth(t *testing.T) {
	for name, c := range map[string]struct {
		first uint64
		b     Breakage
	}{
		"a leader without a majority":       {189, Breakage{ElectWithoutMajority: true}},
		"a wiped disk under its old name":   {74, Breakage{WipedKeepsName: true}},
		"voters that are never asked again": {12, Breakage{NoRefence: true}},
	} {
		t.Run(name, func(t *testing.T) {
			const most = 300
			for i := range uint64(most) {
				if _, err := chaos((c.first+i)%most, c.b); err != nil {
					t.Logf("seed %d: %v", (c.first+i)%most, err)
					return
				}
			}
			t.Fatal("nobody noticed")
		})
	}
}

// The same seed gives the same story, to the last effect.
func TestChaosIsDeterministic(t *testing.T) {
	for seed := range uint64(5) {
		a, _ := chaos(seed, Breakage{})
		b, _ := chaos(seed, Breakage{})
		require.True(t, slices.Equal(a.lines, b.lines), "seed %d", seed)
	}
}
