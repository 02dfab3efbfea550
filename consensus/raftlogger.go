package consensus

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// quiet is how long Raft does not say again what it has said: it complains several times a
// second about each server that does not answer.
const quiet = 10 * time.Second

// raftLogger lets Raft log into logger. What ends the broker is logged by the driver, so
// nothing of Raft's is above a warning.
func raftLogger(logger *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Output: io.Discard, Level: hclog.Off})
	l.RegisterSink(&slogSink{logger: logger, said: map[string]time.Time{}})
	return l
}

type slogSink struct {
	logger *slog.Logger
	mu     sync.Mutex
	said   map[string]time.Time // Raft's messages are constants
}

// Accept implements hclog.SinkAdapter.
func (s *slogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Warn {
		to = slog.LevelWarn
	}
	if !s.logger.Enabled(context.Background(), to) || to == slog.LevelWarn && s.again(msg) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = f[1:]
		}
	}
	s.logger.Log(context.Background(), to, name+": "+msg, args...)
}

// again says whether a message was said a short while ago.
func (s *slogSink) again(msg string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.said[msg]) < quiet {
		return true
	}
	s.said[msg] = now
	return false
}
