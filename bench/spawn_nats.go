package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// natsConfig is the whole configuration of a spawned server. The store's sync interval stays the server's default (two
// minutes) in lazy mode.
const natsConfig = `listen: "127.0.0.1:-1"
jetstream {
  store_dir: %q
  max_file_store: 200GB
%s}
`

var (
	natsListening = regexp.MustCompile(`Listening for client connections on (\S+)`)
	natsReady     = regexp.MustCompile(`Server is ready`)
)

// SpawnNATS starts the nats-server binary at path on a free loopback port with file storage under dir; always chooses
// sync_interval: always. Close of the returned system ends the server.
func SpawnNATS(ctx context.Context, path, dir string, always bool) (System, error) {
	mode, line := "lazy", ""
	if always {
		mode, line = "always", "  sync_interval: always\n"
	}
	work, err := os.MkdirTemp(dir, "bench-nats-"+mode+"-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for nats-server: %w", err)
	}
	config := filepath.Join(work, "nats.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, natsConfig, filepath.Join(work, "store"), line), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("write nats-server configuration: %w", err), os.RemoveAll(work))
	}
	addr := ""
	process, err := StartProcess(ctx, func(line string) (string, bool) {
		if m := natsListening.FindStringSubmatch(line); m != nil {
			addr = m[1]
		}
		return addr, addr != "" && natsReady.MatchString(line)
	}, path, "-c", config)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(work))
	}
	inner, err := ConnectJetStream(ctx, JetStreamOptions{URL: "nats://" + process.Addr, Sync: mode, PID: process.PID})
	if err != nil {
		return nil, errors.Join(err, process.Stop(), os.RemoveAll(work))
	}
	return &spawned{System: inner, process: process, dir: work}, nil
}

// spawned is a system with its server process and directory, which go when it is closed.
type spawned struct {
	System
	process *Process
	dir     string
}

func (s *spawned) Close() error {
	return errors.Join(s.System.Close(), s.process.Stop(), os.RemoveAll(s.dir))
}
