package partitions

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func topicOf(n uint64) (id [16]byte) {
	binary.LittleEndian.PutUint64(id[:], n)
	return id
}

func nodesOf(n, racks int) []Node {
	nodes := make([]Node, n)
	for i := range nodes {
		nodes[i].ID = uint32(i + 1)
		if racks > 0 {
			nodes[i].Rack = fmt.Sprint("rack-", i%racks)
		}
	}
	return nodes
}

func assigned(nodes []Node, topic [16]byte, n uint32, rf int) []Assignment {
	var all []Assignment
	for i, replicas := range PlaceTopic(nodes, topic, n, rf) {
		all = append(all, Assignment{Topic: topic, Partition: uint32(i), Replicas: replicas, Leader: replicas[0]})
	}
	return all
}

func apply(all []Assignment, moves []Move) []Assignment {
	all = slices.Clone(all)
	for _, m := range moves {
		i := m.Partition // one topic, in order
		all[i].Replicas = m.Replicas
		if !slices.Contains(m.Replicas, all[i].Leader) {
			all[i].Leader = m.Replicas[0]
		}
	}
	return all
}

func loadsOf(all []Assignment) map[uint32]int {
	loads := map[uint32]int{}
	for _, a := range all {
		for _, id := range a.Replicas {
			loads[id]++
		}
	}
	return loads
}

func added(moves []Move) (n int) {
	for _, m := range moves {
		n += len(m.Add)
	}
	return n
}

// requirePlaced checks what holds of every placement: distinct nodes that exist, as
// many as wanted, and over as many racks, as evenly, as the nodes allow.
func requirePlaced(t require.TestingT, nodes []Node, replicas []uint32, rf int) {
	require.Len(t, replicas, min(rf, len(nodes)))
	size, held := map[string]int{}, map[string]int{}
	rackOf := func(id uint32) string {
		i := slices.IndexFunc(nodes, func(n Node) bool { return n.ID == id })
		require.GreaterOrEqual(t, i, 0, "node %d is not there", id)
		if nodes[i].Rack == "" {
			return fmt.Sprint("own ", id)
		}
		return nodes[i].Rack
	}
	for _, n := range nodes {
		size[rackOf(n.ID)]++
	}
	seen := map[uint32]bool{}
	for _, id := range replicas {
		require.False(t, seen[id], "node %d twice in %v", id, replicas)
		seen[id] = true
		held[rackOf(id)]++
	}
	for _, n := range held {
		for b := range size {
			if held[b] < size[b] {
				require.LessOrEqual(t, n, held[b]+1, "racks %v of %v for %v", held, size, replicas)
			}
		}
	}
}

func drawNodes(t *rapid.T) []Node {
	nodes := make([]Node, rapid.IntRange(1, 12).Draw(t, "nodes"))
	racks := rapid.IntRange(0, 5).Draw(t, "racks")
	for i := range nodes {
		nodes[i].ID = uint32(i + 1)
		if racks > 0 {
			nodes[i].Rack = rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"}[:racks+1]).Draw(t, "rack")
		}
	}
	return nodes
}

func TestPlaceSpreadsOverNodesAndRacks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, rf := drawNodes(t), rapid.IntRange(1, 5).Draw(t, "rf")
		topic := topicOf(rapid.Uint64().Draw(t, "topic"))
		for _, replicas := range PlaceTopic(nodes, topic, 40, rf) {
			requirePlaced(t, nodes, replicas, rf)
		}
		shuffled := rapid.Permutation(nodes).Draw(t, "order")
		require.Equal(t, PlaceTopic(nodes, topic, 40, rf), PlaceTopic(shuffled, topic, 40, rf))
	})
}

func TestPlaceKeepsLoadsWithinTheBound(t *testing.T) {
	for _, c := range []struct{ nodes, racks, partitions, rf int }{
		{3, 0, 1, 3}, {3, 0, 10, 1}, {5, 0, 100, 3}, {10, 0, 1_000, 3}, {6, 3, 600, 3}, {9, 3, 999, 2}, {50, 5, 10_000, 3}, {100, 0, 1_000, 5},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			nodes := nodesOf(c.nodes, c.racks)
			p := NewPlacement(nodes)
			p.Expect(c.partitions, c.rf)
			for i := range c.partitions {
				requirePlaced(t, nodes, p.Place(topicOf(7), uint32(i), c.rf), c.rf)
			}
			for _, n := range p.Loads() {
				require.LessOrEqual(t, n.Load, upper(c.partitions*c.rf, c.nodes), "replicas on node %d", n.ID)
				require.LessOrEqual(t, n.Leaders, upper(c.partitions, c.nodes)+1, "leaders on node %d", n.ID)
			}
		})
	}
}

// A rack with a single broker holds a replica of everything if there are no more
// racks than replicas: safety comes before even loads.
func TestRacksComeBeforeTheBound(t *testing.T) {
	nodes := []Node{{ID: 1, Rack: "a"}, {ID: 2, Rack: "b"}, {ID: 3, Rack: "b"}, {ID: 4, Rack: "b"}, {ID: 5, Rack: "b"}}
	for _, replicas := range PlaceTopic(nodes, topicOf(1), 100, 2) {
		require.Contains(t, replicas, uint32(1))
	}
	for _, m := range Plan(nodes, assigned(nodes, topicOf(1), 100, 2), true) {
		require.Contains(t, m.Replicas, uint32(1))
	}
}

func TestJoinMovesOneNth(t *testing.T) {
	for _, c := range []struct{ nodes, racks, partitions, rf int }{
		{1, 0, 100, 1}, {3, 0, 300, 3}, {3, 0, 10_000, 3}, {5, 0, 1_000, 3}, {9, 3, 3_000, 3}, {30, 0, 10_000, 3},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			before := assigned(nodesOf(c.nodes, c.racks), topicOf(9), uint32(c.partitions), c.rf)
			nodes := nodesOf(c.nodes+1, c.racks)
			moves := Plan(nodes, before, true)
			total := c.partitions * c.rf
			share := float64(total) / float64(c.nodes+1)
			require.LessOrEqual(t, float64(added(moves)), 1.2*share)
			require.GreaterOrEqual(t, float64(added(moves)), 0.8*share)
			after := apply(before, moves)
			for _, a := range after {
				requirePlaced(t, nodes, a.Replicas, c.rf)
			}
			loads := loadsOf(after)
			for _, n := range nodes {
				if c.racks > 0 {
					break // racks of different sizes cannot be within the bound
				}
				require.LessOrEqual(t, loads[n.ID], upper(total, len(nodes)))
				require.GreaterOrEqual(t, loads[n.ID], lower(total, len(nodes)))
			}
			require.Empty(t, Plan(nodes, after, true), "a plan that was carried out leaves nothing to do")
		})
	}
}

func TestLeaveMovesOnlyWhatTheNodeHeld(t *testing.T) {
	for _, c := range []struct{ nodes, racks, partitions, rf int }{{4, 0, 300, 3}, {10, 0, 5_000, 3}, {9, 3, 900, 3}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			nodes := nodesOf(c.nodes, c.racks)
			before := assigned(nodes, topicOf(3), uint32(c.partitions), c.rf)
			held := loadsOf(before)[2]
			left := slices.Delete(slices.Clone(nodes), 1, 2)
			moves := Plan(left, before, false)
			require.Equal(t, held, added(moves))
			for _, m := range moves {
				require.Equal(t, []uint32{2}, m.Drop)
			}
			loads := loadsOf(apply(before, moves))
			require.Zero(t, loads[2])
			for _, n := range left {
				if c.racks > 0 {
					break // the others of its rack took all of it
				}
				require.LessOrEqual(t, loads[n.ID], upper(c.partitions*c.rf, len(left))+1)
			}
		})
	}
}

func TestPlanMendsWhateverItFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t)
		var before []Assignment
		for i := range rapid.IntRange(0, 30).Draw(t, "partitions") {
			a := Assignment{Topic: topicOf(5), Partition: uint32(i), Want: rapid.IntRange(0, 5).Draw(t, "want")}
			a.Replicas = rapid.SliceOfNDistinct(rapid.Uint32Range(1, 16), 1, 5, rapid.ID).Draw(t, "replicas")
			a.Leader = rapid.SampledFrom(append(a.Replicas, 0)).Draw(t, "leader")
			before = append(before, a)
		}
		balance := rapid.Bool().Draw(t, "balance")
		moves := Plan(nodes, before, balance)
		require.Equal(t, moves, Plan(nodes, rapid.Permutation(before).Draw(t, "order"), balance))
		after := apply(before, moves)
		for i, a := range after {
			want := a.Want
			if want == 0 {
				want = len(before[i].Replicas)
			}
			if balance {
				requirePlaced(t, nodes, a.Replicas, want)
			}
			require.Len(t, a.Replicas, min(want, len(nodes)))
		}
		for _, m := range moves {
			require.NotEmpty(t, append(m.Add, m.Drop...))
		}
		require.Empty(t, Plan(nodes, after, balance), "a plan that was carried out leaves nothing to do")
	})
}

// Fewer replicas: the leader stays, and the rack that holds two gives one up.
func TestPlanDropsWhereRacksAreCrowded(t *testing.T) {
	nodes := []Node{{ID: 1, Rack: "a"}, {ID: 2, Rack: "a"}, {ID: 3, Rack: "b"}}
	moves := Plan(nodes, []Assignment{{Replicas: []uint32{3, 1, 2}, Leader: 2, Want: 2}}, false)
	require.Equal(t, []Move{{Replicas: []uint32{3, 2}, Drop: []uint32{1}}}, moves)
}

// A closed node keeps what it has, and nothing else goes there.
func TestPlanLeavesClosedNodesAlone(t *testing.T) {
	nodes := nodesOf(4, 0)
	before := assigned(nodes[:3], topicOf(4), 60, 2)
	nodes[2].Closed, nodes[3].Closed = true, true
	held := loadsOf(before)[3]
	after := apply(before, Plan(nodes[1:], before, true))
	loads := loadsOf(after)
	require.Zero(t, loads[1])
	require.Zero(t, loads[4])
	require.LessOrEqual(t, loads[3], held)
	require.Equal(t, 60, loads[2], "the only one that takes something")
}

func TestBalanceLeaders(t *testing.T) {
	nodes := nodesOf(3, 0)
	all := assigned(nodes, topicOf(2), 90, 3)
	for i := range all {
		all[i].Leader = 1 // as after a restart of the other two
	}
	moves := BalanceLeaders(nodes, all)
	count := map[uint32]int{1: 90}
	for _, m := range moves {
		require.Equal(t, uint32(1), m.From)
		count[m.From]--
		count[m.To]++
		all[m.Partition].Leader = m.To
	}
	for _, n := range nodes {
		require.InDelta(t, 30, count[n.ID], 3)
	}
	require.Empty(t, BalanceLeaders(nodes, all), "stable")
}

func TestBalanceLeadersChoosesReplicas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t)
		var all []Assignment
		for i := range rapid.IntRange(0, 40).Draw(t, "partitions") {
			a := Assignment{Partition: uint32(i), Replicas: rapid.SliceOfNDistinct(rapid.Uint32Range(1, 14), 1, 4, rapid.ID).Draw(t, "replicas")}
			a.Leader = rapid.SampledFrom(append(a.Replicas, 0)).Draw(t, "leader")
			all = append(all, a)
		}
		for _, m := range BalanceLeaders(nodes, all) {
			a := &all[m.Partition]
			require.Equal(t, a.Leader, m.From)
			require.NotZero(t, a.Leader)
			require.Contains(t, a.Replicas, m.To)
			require.LessOrEqual(t, m.To, uint32(len(nodes)))
			a.Leader = m.To
		}
		require.Empty(t, BalanceLeaders(nodes, all), "stable")
	})
}

const placementFile = "testdata/placement.json"

type placementVector struct {
	Nodes    []Node     `json:"nodes"`
	Topic    [16]byte   `json:"topic"`
	RF       int        `json:"replication_factor"`
	Replicas [][]uint32 `json:"replicas"` // of partitions 0, 1, ...
	Joined   []Move     `json:"moves_when_a_broker_joins"`
	Left     []Move     `json:"moves_when_broker_1_leaves"`
}

func buildPlacementVectors() (all []placementVector) {
	for _, c := range []struct{ nodes, racks, rf int }{{1, 0, 1}, {3, 0, 3}, {4, 0, 2}, {6, 3, 3}} {
		v := placementVector{Nodes: nodesOf(c.nodes, c.racks), Topic: topicOf(uint64(c.nodes) * 0x0123456789), RF: c.rf}
		v.Replicas = PlaceTopic(v.Nodes, v.Topic, 12, c.rf)
		now := assigned(v.Nodes, v.Topic, 12, c.rf)
		v.Joined = Plan(nodesOf(c.nodes+1, c.racks), now, true)
		v.Left = Plan(v.Nodes[1:], now, false)
		all = append(all, v)
	}
	return all
}

// A controller that takes over must plan what its predecessor did, also when it is
// of another version: placement may change only on purpose.
func TestPlacementVectors(t *testing.T) {
	built := buildPlacementVectors()
	if *update {
		data, err := json.MarshalIndent(built, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(placementFile, append(data, '\n'), 0o644))
	}
	data, err := os.ReadFile(placementFile)
	require.NoError(t, err)
	var stored []placementVector
	require.NoError(t, json.Unmarshal(data, &stored))
	require.Equal(t, stored, built)
}

func BenchmarkPlaceTopic(b *testing.B) {
	for _, n := range []int{3, 30} {
		b.Run(fmt.Sprint("10000-partitions-on-", n), func(b *testing.B) {
			b.ReportAllocs()
			nodes := nodesOf(n, 0)
			for b.Loop() {
				PlaceTopic(nodes, topicOf(1), 10_000, 3)
			}
		})
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{3, 30} {
		b.Run(fmt.Sprint("10000-partitions-on-", n), func(b *testing.B) {
			b.ReportAllocs()
			before := assigned(nodesOf(n, 0), topicOf(1), 10_000, 3)
			nodes := nodesOf(n+1, 0)
			for b.Loop() {
				Plan(nodes, before, true)
			}
		})
	}
}
