package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsClusterConfig is the whole configuration of a server of a spawned cluster. Timeouts stay the server's defaults.
const natsClusterConfig = `server_name: %q
listen: %q
cluster {
  name: "bench"
  listen: %q
  routes: [%s]
}
jetstream {
  store_dir: %q
  max_file_store: 200GB
%s}
`

const (
	// persistPatience is after which time without an answer a publisher that persists asks again; persistPause is how
	// long it waits after an error.
	persistPatience = 250 * time.Millisecond
	persistPause    = 10 * time.Millisecond
	reconnectPause  = 10 * time.Millisecond
)

// NATSCluster is a JetStream cluster started by this run.
type NATSCluster struct {
	*jetStreamSystem
	servers []*natsServer
	path    string // of the binary
	dir     string
}

type natsServer struct {
	name, addr, config string
	process            *Process // nil while it does not run
}

// SpawnNATSCluster starts n servers of the nats-server binary at path as one JetStream cluster, with file storage under
// dir; always chooses sync_interval: always. Close ends the servers.
func SpawnNATSCluster(ctx context.Context, path, dir string, n int, always bool) (c *NATSCluster, err error) {
	mode, line := "lazy", ""
	if always {
		mode, line = "always", "  sync_interval: always\n"
	}
	work, err := os.MkdirTemp(dir, "bench-nats-cluster-"+mode+"-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for nats-server: %w", err)
	}
	c = &NATSCluster{path: path, dir: work}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
			c = nil
		}
	}()
	if err := c.configure(n, line); err != nil {
		return c, err
	}
	started := make(chan error, n)
	for _, s := range c.servers {
		go func() { started <- c.start(ctx, s) }()
	}
	var errs []error
	for range c.servers {
		errs = append(errs, <-started)
	}
	if err := errors.Join(errs...); err != nil {
		return c, err
	}
	return c, c.connect(ctx, mode)
}

func (c *NATSCluster) configure(n int, syncLine string) error {
	addrs, err := freeAddresses(2 * n)
	if err != nil {
		return err
	}
	var routes []string
	for _, addr := range addrs[n:] {
		routes = append(routes, fmt.Sprintf("%q", "nats://"+addr))
	}
	for i := range n {
		name := fmt.Sprintf("bench-%d", i+1)
		s := &natsServer{name: name, addr: addrs[i], config: filepath.Join(c.dir, name+".conf")}
		text := fmt.Appendf(nil, natsClusterConfig, name, s.addr, addrs[n+i], strings.Join(routes, ", "),
			filepath.Join(c.dir, name), syncLine)
		if err := os.WriteFile(s.config, text, 0o600); err != nil {
			return fmt.Errorf("write nats-server configuration: %w", err)
		}
		c.servers = append(c.servers, s)
	}
	return nil
}

func (c *NATSCluster) start(ctx context.Context, s *natsServer) (err error) {
	s.process, err = StartProcess(ctx, func(line string) (string, bool) {
		return s.addr, natsReady.MatchString(line)
	}, c.path, "-c", s.config)
	return err
}

// connect waits until the servers are a cluster that takes streams on all of them.
func (c *NATSCluster) connect(ctx context.Context, mode string) error {
	var urls []string
	for _, s := range c.servers {
		urls = append(urls, "nats://"+s.addr)
	}
	err := poll(ctx, "the NATS servers to be a cluster", func() (string, error) {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		sys, err := ConnectJetStream(ask, JetStreamOptions{URL: strings.Join(urls, ","), Sync: mode})
		if err != nil {
			return "", err
		}
		c.jetStreamSystem = sys.(*jetStreamSystem)
		return "", nil
	})
	if err != nil {
		return err
	}
	c.evident = "as configured"
	c.urls = make(map[string]string)
	for i, s := range c.servers {
		c.urls[s.name] = urls[i]
	}
	return poll(ctx, "the NATS servers to take a stream", func() (string, error) {
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		st, err := c.CreateStream(ask, StreamSpec{Name: "ready", Replicas: len(c.servers)})
		if err != nil {
			return "", err
		}
		return "", st.Delete(ask)
	})
}

// connect opens a connection of its own. In a cluster it goes to the server that leads the first stream, which spares
// every message a hop that a client not told so pays most of the time; with detour it goes to another one.
func (st *jetStreamStream) connect(ctx context.Context, name string, detour bool) (*nats.Conn, error) {
	options := []nats.Option{nats.Name(name)}
	url := st.sys.opts.URL
	if st.sys.urls != nil {
		leader, err := st.leader(ctx)
		if err != nil {
			return nil, err
		}
		var urls []string
		for _, u := range st.sys.urls {
			if u != st.sys.urls[leader] {
				urls = append(urls, u)
			}
		}
		at := 0
		if detour {
			at = len(urls)
		}
		url = strings.Join(slices.Insert(urls, at, st.sys.urls[leader]), ",")
		options = append(options, nats.DontRandomize(), nats.MaxReconnects(-1), nats.ReconnectWait(reconnectPause))
	}
	nc, err := nats.Connect(url, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", url, err)
	}
	return nc, nil
}

// leader is the name of the server that leads the first stream.
func (st *jetStreamStream) leader(ctx context.Context) (name string, err error) {
	err = poll(ctx, "a leader of "+st.names[0], func() (string, error) {
		info, err := st.info(ctx)
		if err != nil || info.Cluster == nil || info.Cluster.Leader == "" {
			return "there is none", err
		}
		name = info.Cluster.Leader
		return "", nil
	})
	return name, err
}

func (st *jetStreamStream) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	stream, err := st.sys.js.Stream(ctx, st.names[0])
	if err != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", st.names[0], err)
	}
	return stream.CachedInfo(), nil
}

// sendUntilTaken publishes again and again until the message is acknowledged.
func (p *jetStreamPublisher) sendUntilTaken(ctx context.Context, r Outgoing) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, persistPatience)
		_, err := p.js.Publish(attempt, p.subject(r.Key), r.Value, jetstream.WithRetryAttempts(0))
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-time.After(persistPause):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

func (c *NATSCluster) leaderOf(ctx context.Context, stream Stream) (server int, err error) {
	name, err := stream.(*jetStreamStream).leader(ctx)
	if err != nil {
		return 0, err
	}
	at := slices.IndexFunc(c.servers, func(s *natsServer) bool { return s.name == name })
	if at < 0 {
		return 0, fmt.Errorf("NATS says that %s leads, which is not of this run", name)
	}
	return at + 1, nil
}

func (c *NATSCluster) kill(server int) error {
	s := c.servers[server-1]
	err := s.process.Kill()
	s.process = nil
	return err
}

func (c *NATSCluster) revive(ctx context.Context, server int) error {
	return c.start(ctx, c.servers[server-1])
}

// awaitCopies waits until every server has all of the stream.
func (c *NATSCluster) awaitCopies(ctx context.Context, stream Stream) error {
	return poll(ctx, "every NATS server to have all of the stream", func() (string, error) {
		info, err := stream.(*jetStreamStream).info(ctx)
		if err != nil {
			return "", err
		}
		current := 1 // the leader
		if info.Cluster == nil || info.Cluster.Leader == "" {
			return "there is no leader", nil
		}
		for _, r := range info.Cluster.Replicas {
			if r.Current && !r.Offline {
				current++
			}
		}
		if current < len(c.servers) {
			return fmt.Sprintf("%d of %d have", current, len(c.servers)), nil
		}
		return "", nil
	})
}

// Name tells a cluster from a server by itself.
func (c *NATSCluster) Name() string {
	return fmt.Sprintf("jetstream %s, %d servers", c.sync, len(c.servers))
}

// Usage is that of all servers together.
func (c *NATSCluster) Usage(context.Context) (Usage, bool, error) {
	var sum Usage
	for _, s := range c.servers {
		if s.process == nil {
			continue
		}
		u, err := processUsage(s.process.PID)
		if err != nil {
			return Usage{}, false, err
		}
		sum.add(u)
	}
	return sum, true, nil
}

// Close ends all servers and removes their data.
func (c *NATSCluster) Close() error {
	var errs []error
	if c.jetStreamSystem != nil {
		errs = append(errs, c.jetStreamSystem.Close())
	}
	for _, s := range c.servers {
		if s.process != nil {
			errs = append(errs, s.process.Stop())
			s.process = nil
		}
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}
