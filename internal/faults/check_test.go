package faults

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func id(sequence uint64) ID { return ID{1, 0, sequence} }

// good is three sends to one partition, the last of which was not answered, and everybody saw all of it.
func good() *History {
	reads := []Read{{1, id(1)}, {2, id(2)}, {4, id(3)}}
	return &History{
		Sends:     []Send{{ID: id(1), Invoked: 1, Acked: 2, Offset: 1}, {ID: id(2), Invoked: 3, Acked: 9, Offset: 2}, {ID: id(3), Invoked: 4, Err: "timeout"}},
		Consumers: []map[int32][]Read{{0: slices.Clone(reads)}},
		Final:     map[int32][]Read{0: slices.Clone(reads)},
		Replicas:  map[string]map[int32][]Read{"broker 1": {0: slices.Clone(reads)}},
	}
}

func TestGoodHistory(t *testing.T) {
	require.Empty(t, Check(good()))
	unanswered := good()
	for _, list := range []map[int32][]Read{unanswered.Final, unanswered.Consumers[0], unanswered.Replicas["broker 1"]} {
		list[0] = list[0][:2]
	}
	require.Empty(t, Check(unanswered), "what was not acknowledged may be missing")
	behind := good()
	behind.Replicas["broker 1"][0] = append(behind.Replicas["broker 1"][0], Read{5, id(9)})
	require.Empty(t, Check(behind), "a replica may hold more than is committed")
}

// Every checker must be able to fail.
func TestCheckersHaveTeeth(t *testing.T) {
	for _, c := range []struct {
		name  string
		kinds []string
		bend  func(h *History)
	}{
		{"acknowledged and gone", []string{"lost", "inconsistent"}, func(h *History) { h.Final[0] = h.Final[0][1:] }},
		{"gone on a replica", []string{"lost"}, func(h *History) { h.Replicas["broker 1"][0] = h.Replicas["broker 1"][0][1:] }},
		{"replica without the partition", []string{"lost"}, func(h *History) { delete(h.Replicas["broker 1"], 0) }},
		{"replica differs", []string{"inconsistent"}, func(h *History) { h.Replicas["broker 1"][0][1].ID = id(7) }},
		{"twice", []string{"duplicated"}, func(h *History) { h.Final[0] = append(h.Final[0], Read{5, id(1)}) }},
		{"producer order", []string{"reordered", "inconsistent"}, func(h *History) {
			h.Final[0][0].ID, h.Final[0][1].ID = h.Final[0][1].ID, h.Final[0][0].ID
		}},
		{"real time", []string{"reordered"}, func(h *History) {
			// Two producers, so that only time orders them.
			h.Sends[1].ID.Producer = 2
			for _, l := range []map[int32][]Read{h.Final, h.Consumers[0], h.Replicas["broker 1"]} {
				l[0] = []Read{{1, h.Sends[1].ID}, {2, id(1)}, {4, id(3)}}
			}
			h.Sends[0].Offset, h.Sends[1].Offset = 2, 1
		}},
		{"another offset", []string{"inconsistent"}, func(h *History) { h.Sends[0].Offset = 3 }},
		{"never sent", []string{"inconsistent"}, func(h *History) { h.Final[0] = append(h.Final[0], Read{6, id(8)}) }},
		{"final read goes back", []string{"non-monotonic"}, func(h *History) { slices.Reverse(h.Final[0]) }},
		{"consumer goes back", []string{"non-monotonic"}, func(h *History) { slices.Reverse(h.Consumers[0][0]) }},
		{"consumer passes over", []string{"skipped"}, func(h *History) { h.Consumers[0][0] = slices.Delete(h.Consumers[0][0], 1, 2) }},
		{"consumer sees another", []string{"inconsistent"}, func(h *History) { h.Consumers[0][0][0].ID = id(2) }},
		{"consumer sees what is gone", []string{"inconsistent"}, func(h *History) {
			h.Consumers[0][0] = append(h.Consumers[0][0], Read{9, id(9)})
		}},
		{"stuck", []string{"stuck"}, func(h *History) { h.Stuck = []string{"partition 0 has no leader"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := good()
			c.bend(h)
			kinds := map[string]bool{}
			for _, v := range Check(h) {
				kinds[v.Kind] = true
			}
			for _, kind := range c.kinds {
				require.Contains(t, slices.Collect(maps.Keys(kinds)), kind)
			}
		})
	}
}

func TestValuesCarryTheirID(t *testing.T) {
	got, err := parseID(ID{3, 4, 5}.value(100))
	require.NoError(t, err)
	require.Equal(t, ID{3, 4, 5}, got)
	_, err = parseID([]byte("short"))
	require.Error(t, err)
}

func TestLongestPause(t *testing.T) {
	h := &History{}
	for _, at := range []time.Duration{200, 5, 20, 60, 70} {
		h.Sends = append(h.Sends, Send{Acked: at})
	}
	acks := h.ackTimes(1)
	require.EqualValues(t, 40, longestPause(acks, 10, 100))
	require.EqualValues(t, 930, longestPause(acks, 70, 1130))
	require.EqualValues(t, 10, longestPause(acks, 21, 31))
	require.EqualValues(t, 90, longestPause(h.ackTimes(2), 10, 100), "the other partition acknowledged nothing")
}
