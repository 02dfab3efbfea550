package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type place struct {
	partition int32
	offset    int64
}

// readAcks reads what produce --print-acks printed.
func readAcks(t *testing.T, out string) map[int]place {
	t.Helper()
	acked := map[int]place{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 3 || !strings.HasSuffix(line, "\n") {
			continue // the summary, or torn by a kill
		}
		n, err := strconv.Atoi(f[0])
		require.NoError(t, err)
		p, err := strconv.Atoi(f[1])
		require.NoError(t, err)
		o, err := strconv.ParseInt(f[2], 10, 64)
		require.NoError(t, err)
		_, twice := acked[n]
		require.False(t, twice, "line %d acknowledged twice", n)
		acked[n] = place{int32(p), o}
	}
	return acked
}

// stored is a record as consume --format '%p %o %v\n' prints it.
type stored struct {
	place
	value string
}

func readStored(t *testing.T, out string) []stored {
	t.Helper()
	var all []stored
	for line := range strings.Lines(out) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		require.Equal(t, 3, len(f), line)
		p, err := strconv.Atoi(f[0])
		require.NoError(t, err)
		o, err := strconv.ParseInt(f[1], 10, 64)
		require.NoError(t, err)
		all = append(all, stored{place{int32(p), o}, f[2]})
	}
	return all
}

// checkHistory says what is wrong with a topic that lines (all different) were
// sent to: every acknowledged line is stored at the place that was
// acknowledged, no line is stored twice or was never sent, and in each
// partition lines stand in the order in which they were sent.
func checkHistory(lines []string, acked map[int]place, records []stored) error {
	number := map[string]int{}
	for i, line := range lines {
		number[line] = i + 1
	}
	at := map[int]place{}
	last := map[int32]stored{}
	for _, r := range records {
		n, sent := number[r.value]
		if !sent {
			return fmt.Errorf("partition %d offset %d holds %q, which was never sent", r.partition, r.offset, r.value)
		}
		if first, twice := at[n]; twice {
			return fmt.Errorf("line %d is stored twice: at %v and at %v", n, first, r.place)
		}
		at[n] = r.place
		if before, ok := last[r.partition]; ok {
			if before.offset >= r.offset {
				return fmt.Errorf("partition %d: offset %d comes after %d", r.partition, r.offset, before.offset)
			}
			if number[before.value] > n {
				return fmt.Errorf("partition %d: line %d is stored before line %d", r.partition, number[before.value], n)
			}
		}
		last[r.partition] = r
	}
	var missing []int
	for n, where := range acked {
		switch got, there := at[n]; {
		case !there:
			missing = append(missing, n)
		case got != where:
			return fmt.Errorf("line %d was acknowledged at %v and is at %v", n, where, got)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("%d acknowledged lines are lost, the first is line %d", len(missing), missing[0])
	}
	return nil
}

// The checker must be able to fail.
func TestHistoryCheckHasTeeth(t *testing.T) {
	lines := []string{"a", "b", "c"}
	acked := map[int]place{1: {0, 0}, 2: {1, 0}}
	good := []stored{{place{0, 0}, "a"}, {place{1, 0}, "b"}, {place{0, 1}, "c"}}
	require.NoError(t, checkHistory(lines, acked, good))
	require.NoError(t, checkHistory(lines, acked, good[:2]), "c was not acknowledged")
	for want, records := range map[string][]stored{
		"lost":             good[1:],
		"twice":            append(slices.Clone(good), stored{place{0, 2}, "a"}),
		"never sent":       append(slices.Clone(good), stored{place{0, 2}, "x"}),
		"acknowledged at":  {{place{0, 1}, "a"}, good[1]},
		"is stored before": {{place{0, 0}, "c"}, {place{0, 1}, "a"}},
		"comes after":      {{place{0, 5}, "a"}, {place{0, 5}, "b"}},
	} {
		require.ErrorContains(t, checkHistory(lines, acked, records), want)
	}
}
