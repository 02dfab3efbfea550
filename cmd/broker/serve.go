package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sequitur-mq/sequitur/admin"
	"github.com/sequitur-mq/sequitur/broker"
	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/log"
)

func (c *cli) serveCommand() *cobra.Command {
	var file, level string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a broker",
		Long: `Runs a broker until SIGINT or SIGTERM, which let requests in flight finish; a
second signal ends it at once, which loses nothing acknowledged either.

Settings come from, the later the stronger: defaults, the file that --config
names (JSON), the environment (SEQUITUR_DATA_DIR for data-dir), flags.`,
		Example: `  broker serve
  broker serve --data /var/lib/sequitur --listen 127.0.0.1:7650 --http 127.0.0.1:7660
  broker serve --data ./other --listen 127.0.0.1:0 --http ""
  broker serve --config broker.json`,
		Args: names(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := serveConfig(cmd.Flags(), file, os.LookupEnv)
			if err != nil {
				return err
			}
			return c.serve(cfg, level)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	for _, s := range broker.Settings() {
		if s.Name == "data-dir" {
			flags.String("data", s.Default, s.Doc)
			flags.StringVar(&file, "config", "", "JSON file of settings, by the names of the flags (data-dir for --data)")
			flags.StringVar(&level, "log-level", "warn", "debug, info, warn or error; the log goes to standard error")
			continue
		}
		flag := flags.VarPF(&settingFlag{text: s.Default}, s.Name, "", s.Doc)
		if flag.Value.Type() == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
	completeFlag(cmd, "log-level", "debug", "info", "warn", "error")
	return cmd
}

// serveDefaults is what the program does without a command.
func (c *cli) serveDefaults(cmd *cobra.Command) error {
	serve, _, err := cmd.Find([]string{"serve"})
	if err != nil {
		return err
	}
	return serve.RunE(serve, nil)
}

// settingFlag keeps the text of a flag for the broker's configuration, which
// knows what it means.
type settingFlag struct{ text string }

// String is the text.
func (f *settingFlag) String() string { return f.text }

// Set keeps a text.
func (f *settingFlag) Set(s string) error { f.text = s; return nil }

// Type is the placeholder in help, found from the value: pflag writes none for
// bool.
func (f *settingFlag) Type() string {
	if f.text == "true" || f.text == "false" {
		return "bool"
	}
	if _, err := strconv.Atoi(f.text); err == nil {
		return "number"
	}
	if _, err := time.ParseDuration(f.text); err == nil {
		return "duration"
	}
	if strings.HasSuffix(f.text, "iB") {
		return "bytes"
	}
	return "address"
}

// serveConfig puts the configuration together.
func serveConfig(flags *pflag.FlagSet, file string, env func(string) (string, bool)) (broker.Config, error) {
	cfg := broker.DefaultConfig()
	cfg.Version = thisVersion().Version
	if file != "" {
		if err := cfg.LoadFile(file); err != nil {
			code := exitUsage
			if errors.Is(err, os.ErrNotExist) {
				code = exitNotFound
			}
			return cfg, fail(code, "", "%v", err)
		}
	}
	if err := cfg.LoadEnv(env); err != nil {
		return cfg, usagef("", "%v", err)
	}
	var failed error
	flags.Visit(func(f *pflag.Flag) {
		name := f.Name
		if name == "data" {
			name = "data-dir"
		}
		if name == "config" || name == "log-level" || failed != nil {
			return
		}
		if err := cfg.Set(name, f.Value.String()); err != nil {
			failed = usagef("", "--%s: %v", f.Name, err)
		}
	})
	if failed != nil {
		return cfg, failed
	}
	if err := cfg.Validate(); err != nil {
		return cfg, usagef("", "%v", err)
	}
	return cfg, nil
}

// serve runs a broker until a signal or a failed disk ends it.
func (c *cli) serve(cfg broker.Config, level string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return usagef("choose debug, info, warn or error", "--log-level %q is not known", level)
	}
	cfg.Logger = slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: l}))
	if err := recordFaults(&cfg); err != nil {
		return err
	}
	// From the start on: a broker that recovers must stop when asked, too.
	ctx, stop := c.interruptible(context.Background())
	defer stop()
	began := time.Now()
	b, err := broker.Start(ctx, cfg)
	if err != nil {
		if interrupted(ctx) {
			return errInterrupted
		}
		return c.explainStart(err, &cfg)
	}
	var http *admin.Server
	if cfg.HTTP != "" {
		if http, err = admin.Start(b, cfg.HTTP, cfg.Logger); err != nil {
			// The reason why nothing starts is the one to report.
			_ = shutdown(b, nil, &cfg)
			return c.explainStart(err, &cfg)
		}
	}
	if c.joined(ctx, b) {
		c.banner(b, http, &cfg, time.Since(began))
	}
	return c.attend(ctx, b, http, &cfg)
}

// joined waits until clients are served, which in a cluster takes others, and
// reports whether that came about.
func (c *cli) joined(ctx context.Context, b *broker.Broker) bool {
	select {
	case <-b.Serving():
		return true
	case <-b.Failed():
		return false
	case <-ctx.Done():
		return false
	}
}

// attend waits for the end of a running broker. A second signal ends the
// process at once, see interruptible.
func (c *cli) attend(ctx context.Context, b *broker.Broker, http *admin.Server, cfg *broker.Config) error {
	select {
	case err := <-b.Err():
		_ = shutdown(b, http, cfg) // it has failed already
		if errors.Is(err, broker.ErrNotAdmitted) {
			return usagef("", "%v", err)
		}
		return c.diskFailed(err, cfg)
	case <-ctx.Done():
	}
	c.say("stopping: requests in flight may finish, then everything goes to disk; again to stop at once")
	err := shutdown(b, http, cfg)
	if errors.Is(err, log.ErrStorageFailed) {
		return c.diskFailed(err, cfg)
	}
	if err != nil {
		return fmt.Errorf("stop the broker: %w", err)
	}
	c.say("stopped, everything is on disk")
	return nil
}

func (c *cli) diskFailed(err error, cfg *broker.Config) error {
	return fail(exitStorage, "nothing acknowledged is lost as long as the disk keeps what it has written\n"+
		"check the disk, then: "+c.invoked()+" check "+cfg.DataDir, "the broker has stopped: %v", err)
}

// shutdown stops a broker, giving requests in flight their time.
func shutdown(b *broker.Broker, http *admin.Server, cfg *broker.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Duration(cfg.ShutdownTimeout))
	defer cancel()
	err := b.Shutdown(ctx)
	if http != nil {
		// Last, so that /readyz tells about the stop while it lasts.
		err = errors.Join(err, http.Close(ctx))
	}
	return err
}

// explainStart says what to do about a broker that does not start.
func (c *cli) explainStart(err error, cfg *broker.Config) error {
	var opErr *net.OpError
	var noHost *net.DNSError
	switch {
	case errors.Is(err, log.ErrLocked):
		return fail(exitInUse, fmt.Sprintf("stop that one, or use another directory: %s serve --data DIR", c.invoked()),
			"the data directory %s is in use by another broker", cfg.DataDir)
	case errors.Is(err, syscall.EADDRINUSE) && errors.As(err, &opErr) && opErr.Addr != nil:
		return c.explainOccupied(opErr.Addr.String(), cfg)
	case errors.Is(err, syscall.EADDRNOTAVAIL) && errors.As(err, &opErr) && opErr.Addr != nil:
		return usagef("listen on an address of this machine, such as 127.0.0.1:7650", "the address %s is not one of this machine", opErr.Addr)
	case errors.As(err, &noHost):
		return usagef("listen on an address of this machine, such as 127.0.0.1:7650", "there is no host %q: %v", noHost.Name, noHost)
	case errors.Is(err, syscall.EACCES) && errors.As(err, &opErr) && opErr.Addr != nil:
		return usagef("choose a port from 1024 on, such as 7650", "the address %s needs more rights than this process has", opErr.Addr)
	case errors.Is(err, log.ErrCorrupt):
		return fail(exitCorrupt, fmt.Sprintf("see everything that is damaged: %s check %s\nthen restore the directory from a copy", c.invoked(), cfg.DataDir), "%v", err)
	case errors.Is(err, log.ErrStorageFull), errors.Is(err, syscall.ENOSPC):
		return fail(exitStorage, "free space on the disk of "+cfg.DataDir, "%v", err)
	}
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return fail(exitFailure, "choose another directory: "+c.invoked()+" serve --data DIR", "%v", err)
	}
	return err
}

// occupantTimeout bounds the question who listens on an address.
const occupantTimeout = 10 * time.Second

// explainOccupied says what listens on an address that is wanted, as far as it
// tells.
func (c *cli) explainOccupied(addr string, cfg *broker.Config) error {
	flag, port := "--listen", addr
	if addr == cfg.HTTP {
		flag = "--http"
	}
	if _, p, err := net.SplitHostPort(addr); err == nil {
		port = p
	}
	todo := fmt.Sprintf("stop what listens there, or choose another: %s serve %s 127.0.0.1:0", c.invoked(), flag)
	ctx, cancel := context.WithTimeout(context.Background(), occupantTimeout)
	defer cancel()
	if client, err := sequitur.Connect(ctx, addr, sequitur.WithClientName("broker-cli")); err == nil {
		defer client.Close()
		if other, err := client.DescribeBroker(ctx, addr); err == nil {
			return fail(exitInUse, todo, "the address %s is in use by another broker: process %d, with its data in %s", addr, other.PID, other.DataDir)
		}
	}
	return fail(exitInUse, todo+fmt.Sprintf("\nsee which process it is with: ss -ltnp 'sport = :%s'", port), "the address %s is in use", addr)
}

// banner says what runs and what to type next.
func (c *cli) banner(b *broker.Broker, http *admin.Server, cfg *broker.Config, took time.Duration) {
	info := b.Describe()
	server := ""
	if b.Addr() != defaultServer {
		server = " --server " + b.Addr()
	}
	var s strings.Builder
	fmt.Fprintf(&s, "Sequitur %s is ready after %d ms\n", cfg.Version, took.Milliseconds())
	fmt.Fprintf(&s, "  data        %s, %s, %s free\n", cfg.DataDir, count(int64(info.Partitions), "partition"), roundSize(info.DiskFree))
	fmt.Fprintf(&s, "  durability  acknowledged means flushed to disk, unless a topic says otherwise; journal %s\n", info.JournalMode)
	fmt.Fprintf(&s, "  clients     %s\n", b.Addr())
	if http != nil {
		fmt.Fprintf(&s, "  http        http://%s/healthz, /readyz, /metrics\n", http.Addr())
	}
	self := c.invoked()
	fmt.Fprintf(&s, `
Type next, in another terminal:
  %s topic create greetings --partitions 4%s
  echo "hello" | %s produce greetings%s
  %s consume greetings%s

Ctrl-C stops it.
`, self, server, self, server, self, server)
	fmt.Fprint(c.stdout, s.String())
}
