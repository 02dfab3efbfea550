package txn

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// network is one client of one partition over a lossy, duplicating, reordering line.
// The client keeps up to inFlight batches on the way, sends again whatever is not
// answered, and restarts under a higher epoch now and then, leaving its old batches
// on the line.
type network struct {
	rng      *rand.Rand
	state    *Producers
	epoch    uint32
	sent     uint32 // batches made in this epoch
	acked    map[uint32]int64
	line     []batch // copies on their way
	log      []batch // what the partition stored
	inFlight int
}

// batch number seq of an epoch; every batch is one record.
type batch struct{ epoch, seq uint32 }

func (n *network) step() error {
	switch r := n.rng.IntN(20); {
	case r == 0: // the client restarts; its old batches stay on the line
		n.epoch++
		n.sent, n.acked = 0, map[uint32]int64{}
	case r < 8: // something new, if the window allows it
		if int(n.sent)-len(n.acked) < n.inFlight {
			n.line = append(n.line, batch{n.epoch, n.sent})
			n.sent++
		}
	case r < 11: // everything not answered again
		for seq := range n.sent {
			if _, ok := n.acked[seq]; !ok {
				n.line = append(n.line, batch{n.epoch, seq})
			}
		}
	case r < 12 && len(n.line) > 0: // one is lost
		i := n.rng.IntN(len(n.line))
		n.line = append(n.line[:i], n.line[i+1:]...)
	case len(n.line) > 0: // one arrives, any; perhaps it stays and comes again
		i := n.rng.IntN(len(n.line))
		b := n.line[i]
		if n.rng.IntN(3) > 0 {
			n.line = append(n.line[:i], n.line[i+1:]...)
		}
		return n.arrive(b)
	}
	return nil
}

func (n *network) arrive(b batch) error {
	v, err := n.state.Check(7, b.epoch, b.seq, 0)
	if err != nil {
		return nil
	}
	if !v.Duplicate {
		v.BaseOffset = int64(len(n.log))
		n.state.Apply(header(7, b.epoch, b.seq, 0, v.BaseOffset, 1))
		n.log = append(n.log, b)
	}
	if b.epoch == n.epoch && n.rng.IntN(2) == 0 { // the answer may be lost
		if n.log[v.BaseOffset] != b {
			return fmt.Errorf("batch %v was answered with the offset of %v", b, n.log[v.BaseOffset])
		}
		n.acked[b.seq] = v.BaseOffset
	}
	return nil
}

// check is the promise: within an epoch every sequence once, in order and without a
// gap, and nothing of an older epoch after a newer one.
func (n *network) check() error {
	for i, b := range n.log {
		if i == 0 {
			continue
		}
		last := n.log[i-1]
		switch {
		case b.epoch < last.epoch:
			return fmt.Errorf("offset %d: epoch %d after %d", i, b.epoch, last.epoch)
		case b.epoch == last.epoch && b.seq <= last.seq:
			return fmt.Errorf("offset %d: sequence %d stored after %d", i, b.seq, last.seq)
		case b.epoch == last.epoch && b.seq != last.seq+1:
			return fmt.Errorf("offset %d: sequence %d missing", i, last.seq+1)
		}
	}
	return nil
}

func simulate(seed uint64, breakRule func(*Producers)) error {
	n := &network{rng: rand.New(rand.NewPCG(seed, 1)), state: NewProducers(16), acked: map[uint32]int64{}, inFlight: 8}
	breakRule(n.state)
	// The first batch of an epoch is accepted at any sequence, so it must arrive first:
	// the client sends ahead only once it was answered.
	for range 400 {
		n.inFlight = 8
		if len(n.acked) == 0 {
			n.inFlight = 1
		}
		if err := n.step(); err != nil {
			return err
		}
	}
	return n.check()
}

func TestExactlyOnceOverALossyLine(t *testing.T) {
	for seed := range uint64(500) {
		require.NoError(t, simulate(seed, func(*Producers) {}), "seed %d", seed)
	}
}

// Each rule switched off alone must be caught.
func TestTeeth(t *testing.T) {
	for name, breakRule := range map[string]func(*Producers){
		"no sequence check":   func(p *Producers) { p.noSequence = true },
		"no duplicate window": func(p *Producers) { p.noWindow = true },
		"no fencing":          func(p *Producers) { p.noFence = true },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(500) {
				if err := simulate(seed, breakRule); err != nil {
					t.Logf("caught at seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("the rule is off and nothing noticed")
		})
	}
}
