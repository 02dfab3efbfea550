package sim

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// seeds is how many are run with every change. docs/testing.md says how to run more.
func seeds() uint64 {
	switch {
	case raceEnabled:
		return 300
	case testing.Short():
		return 1_000
	default:
		return 10_000
	}
}

func TestSeeds(t *testing.T) {
	var sum Result
	for seed := range seeds() {
		r := Run(Options{Seed: seed})
		require.NoError(t, r.Err, "go run ./internal/sim/cmd/sim --seed %d", seed)
		sum.Add(r)
	}
	t.Logf("%d seeds: %v", seeds(), sum)
	// A simulation in which nothing happens finds nothing.
	for name, n := range map[string]int{
		"epochs": sum.Epochs, "crashes": sum.Crashes, "wipes": sum.Wipes, "changes": sum.Changes,
		"truncations": sum.Truncated, "resets": sum.Resets, "questions": sum.Ends,
	} {
		require.Greater(t, n, int(seeds()/20), name)
	}
	require.Greater(t, sum.Committed, 10*int64(seeds()))
}

// The same seed gives the same run, so that what a seed finds can be looked at.
func TestReplay(t *testing.T) {
	traces := map[uint64]bool{}
	for seed := range uint64(50) {
		first := Run(Options{Seed: seed})
		lines := 0
		second := Run(Options{Seed: seed, Log: func(string) { lines++ }})
		require.Equal(t, first, second)
		require.Positive(t, lines)
		traces[first.Trace] = true
	}
	require.Len(t, traces, 50)
}

// With any rule off, the simulation finds that records are lost, or worse.
func TestTeeth(t *testing.T) {
	const within = 2_000
	for _, rule := range Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			o := Options{}
			rule.Off(&o.Break)
			for o.Seed = range uint64(within) {
				r := Run(o)
				if r.Err != nil && !errors.Is(r.Err, ErrStuck) {
					t.Logf("seed %d: %v", o.Seed, r.Err)
					return
				}
			}
			t.Fatalf("the rule is off, and none of %d seeds noticed", within)
		})
	}
}

func BenchmarkSeed(b *testing.B) {
	events := 0
	for seed := uint64(0); b.Loop(); seed++ {
		events += Run(Options{Seed: seed}).Events
	}
	b.ReportMetric(float64(events)/float64(b.N), "events/op")
}
