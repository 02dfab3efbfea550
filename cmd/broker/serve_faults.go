//go:build faults

package main

import (
	"os"

	"github.com/sequitur-mq/sequitur/broker"
	"github.com/sequitur-mq/sequitur/internal/vfs/rewind"
)

// recordFaults has the broker note how to undo what it changes on disk, so that a test of power cuts can lose what was
// not synced. It is not part of the broker that is released.
func recordFaults(cfg *broker.Config) error {
	side := os.Getenv("FAULTS_RECORD")
	if side == "" {
		return nil
	}
	os.Unsetenv("FAULTS_RECORD")
	fs, err := rewind.Record(side)
	if err != nil {
		return err
	}
	cfg.UseFS(fs)
	return nil
}
