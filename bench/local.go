package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// ListeningPrefix starts the line with which a child broker tells its address on standard output.
const ListeningPrefix = "listening on "

// Launcher starts a broker as a child process.
type Launcher struct {
	// Command and the arguments for a data directory.
	Command string
	Args    func(dataDir string) []string
	// Member gives the arguments for a broker of a cluster.
	Member func(m Member) []string
	// Orderly has the brokers of a cluster stop in good order at its end, for example to write profiles. Otherwise they
	// are killed, since their data goes too.
	Orderly bool
}

// Local is a broker started by this run, with its data in a temporary directory.
type Local struct {
	System
	Process *Process
	DataDir string

	launcher Launcher
	dir      string // removed at Close
}

// StartLocal starts a broker with an empty data directory below dir.
func StartLocal(ctx context.Context, launcher Launcher, dir string) (*Local, error) {
	work, err := os.MkdirTemp(dir, "bench-sequitur-")
	if err != nil {
		return nil, fmt.Errorf("make a data directory: %w", err)
	}
	l := &Local{launcher: launcher, dir: work, DataDir: work + "/data"}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(work))
	}
	return l, nil
}

func (l *Local) start(ctx context.Context) error {
	process, err := StartProcess(ctx, func(line string) (string, bool) {
		return strings.CutPrefix(line, ListeningPrefix)
	}, l.launcher.Command, l.launcher.Args(l.DataDir)...)
	if err != nil {
		return err
	}
	sys, err := ConnectSequitur(ctx, process.Addr)
	if err != nil {
		return errors.Join(err, process.Stop())
	}
	l.Process, l.System = process, sys
	return nil
}

// Restart ends the broker, gracefully or by SIGKILL, and starts it again on the same data.
func (l *Local) Restart(ctx context.Context, kill bool) error {
	if err := l.Halt(kill); err != nil {
		return err
	}
	return l.start(ctx)
}

// Halt ends the broker but keeps its data.
func (l *Local) Halt(kill bool) error {
	var err error
	if kill {
		err = l.Process.Kill()
	}
	err = errors.Join(err, l.System.Close())
	if !kill {
		err = errors.Join(err, l.Process.Stop())
	}
	return err
}

// Close ends the broker and removes its data.
func (l *Local) Close() error {
	return errors.Join(l.System.Close(), l.Process.Stop(), os.RemoveAll(l.dir))
}
