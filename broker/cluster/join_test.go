package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/wire"
	"github.com/sequitur-mq/sequitur/wire/peer"
)

func disk(n uint32) wire.UUID { return wire.UUID{byte(n), 0xd} }

// TestNextStep goes through what a newcomer may meet.
func TestNextStep(t *testing.T) {
	self := Newcomer{Node: 2, Disk: disk(2)}
	fresh := func(node uint32) *peer.WhoResponse { return &peer.WhoResponse{Node: node, Disk: disk(node)} }
	in := func(node uint32, cluster byte) *peer.WhoResponse {
		w := fresh(node)
		w.Cluster = wire.UUID{cluster}
		return w
	}
	ctl := in(3, 1)
	ctl.Controller, ctl.ControllerAddr = 9, "i"
	for _, c := range []struct {
		name  string
		asked []Asked
		want  JoinStep
		err   string
	}{
		{name: "nobody to join", want: JoinStep{Found: true}},
		{name: "only itself", asked: []Asked{{"b", fresh(2)}}, want: JoinStep{Found: true}},
		{name: "lowest of all", asked: []Asked{{"b", fresh(2)}, {"c", fresh(3)}, {"d", fresh(4)}}, want: JoinStep{Found: true}},
		{name: "not the lowest", asked: []Asked{{"a", fresh(1)}, {"b", fresh(2)}}, want: JoinStep{Wait: "node 1 is to found the cluster"}},
		{name: "one is silent", asked: []Asked{{"c", fresh(3)}, {"d", nil}}, want: JoinStep{Wait: "no answer from d, which may know a cluster"}},
		{name: "one is in a cluster, one silent", asked: []Asked{{"d", nil}, {"a", in(1, 1)}}, want: JoinStep{Register: []string{"a"}}},
		{name: "the controller comes first", asked: []Asked{{"a", in(1, 1)}, {"c", ctl}}, want: JoinStep{Register: []string{"i", "a", "c"}}},
		{name: "lower, but there is a cluster", asked: []Asked{{"c", in(3, 1)}, {"d", fresh(4)}}, want: JoinStep{Register: []string{"c"}}},
		{name: "two clusters", asked: []Asked{{"a", in(1, 1)}, {"c", in(3, 2)}}, err: "different clusters"},
		{name: "two of one number", asked: []Asked{{"x", &peer.WhoResponse{Node: 2, Disk: disk(9)}}}, err: "node id of its own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := NextStep(self, c.asked)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

// Whatever part of the answers each newcomer gets, at most one of them founds.
func TestOneFounder(t *testing.T) {
	const n = 4
	founders := map[uint32]bool{}
	for self := uint32(1); self <= n; self++ {
		for silent := range 1 << n {
			var asked []Asked
			for other := uint32(1); other <= n; other++ {
				a := Asked{Addr: string(rune('a' + other))}
				if silent>>(other-1)&1 == 0 {
					a.Who = &peer.WhoResponse{Node: other, Disk: disk(other)}
				}
				asked = append(asked, a)
			}
			step, err := NextStep(Newcomer{Node: self, Disk: disk(self)}, asked)
			require.NoError(t, err)
			if step.Found {
				founders[self] = true
			}
		}
	}
	require.Equal(t, map[uint32]bool{1: true}, founders)
}
