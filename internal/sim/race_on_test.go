//go:build race

package sim

// raceEnabled: the race detector makes a run about ten times slower, and finds nothing
// in one thread.
const raceEnabled = true
