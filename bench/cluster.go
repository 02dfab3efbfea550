package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// Member is a broker of a cluster to be started.
type Member struct {
	Node          int // from 1
	DataDir       string
	Listen        string // address for clients
	ClusterListen string // address for the other brokers
	Join          string // those of all, separated by commas
}

// Cluster is a cluster of brokers started by this run, each a process with a data directory of its own.
type Cluster struct {
	*sequiturSystem
	launcher Launcher
	brokers  []*clusterBroker
	dir      string // removed at Close
}

// clusterBroker is one broker, running or not.
type clusterBroker struct {
	Member
	process *Process         // nil while it does not run
	client  *sequitur.Client // asks this broker and no other
}

const (
	// clusterTries is how often a cluster is started anew because somebody took one of its ports.
	clusterTries = 3
	// settleTimeout bounds the wait for a cluster to be whole again, settlePoll is how often it is asked.
	settleTimeout = 2 * time.Minute
	settlePoll    = 10 * time.Millisecond
)

// StartCluster starts n brokers with empty data directories below dir and waits until they are one cluster.
func StartCluster(ctx context.Context, launcher Launcher, dir string, n int) (*Cluster, error) {
	if launcher.Member == nil || n < 1 {
		return nil, fmt.Errorf("start a cluster of %d brokers: not possible here", n)
	}
	var err error
	for range clusterTries {
		var c *Cluster
		if c, err = startCluster(ctx, launcher, dir, n); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, fmt.Errorf("start a cluster of %d brokers: %w", n, err)
}

func startCluster(ctx context.Context, launcher Launcher, dir string, n int) (c *Cluster, err error) {
	work, err := os.MkdirTemp(dir, "bench-cluster-")
	if err != nil {
		return nil, fmt.Errorf("make a data directory: %w", err)
	}
	c = &Cluster{launcher: launcher, dir: work}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
			c = nil
		}
	}()
	addrs, err := freeAddresses(2 * n)
	if err != nil {
		return c, err
	}
	for i := range n {
		c.brokers = append(c.brokers, &clusterBroker{Member: Member{
			Node: i + 1, DataDir: filepath.Join(work, fmt.Sprintf("broker%d", i+1)),
			Listen: addrs[i], ClusterListen: addrs[n+i], Join: strings.Join(addrs[n:], ","),
		}})
	}
	// All at once: the first start of each waits for the others.
	if err := c.each(func(b *clusterBroker) error { return c.start(ctx, b) }); err != nil {
		return c, err
	}
	sys, err := ConnectSequitur(ctx, strings.Join(addrs[:n], ","))
	if err != nil {
		return c, err
	}
	c.sequiturSystem = sys.(*sequiturSystem)
	return c, c.poll(ctx, "all brokers to be known", func() (string, error) {
		known, err := c.admin.ListBrokers(ctx)
		if err != nil || len(known) == n {
			return "", err
		}
		return fmt.Sprintf("%d of %d are", len(known), n), nil
	})
}

// each does something to all brokers at once.
func (c *Cluster) each(do func(b *clusterBroker) error) error {
	done := make(chan error, len(c.brokers))
	for _, b := range c.brokers {
		go func() { done <- do(b) }()
	}
	var errs []error
	for range c.brokers {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// poll asks again and again until there is nothing left to wait for; missing says what is.
func (c *Cluster) poll(ctx context.Context, what string, missing func() (string, error)) error {
	return poll(ctx, what, missing)
}

func poll(ctx context.Context, what string, missing func() (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for {
		left, err := missing()
		if err == nil && left == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err == nil {
				err = errors.New(left)
			}
			return errors.Join(fmt.Errorf("wait for %s: %w", what, err), ctx.Err())
		}
	}
}

// start starts a broker that does not run.
func (c *Cluster) start(ctx context.Context, b *clusterBroker) error {
	process, err := StartProcess(ctx, func(line string) (string, bool) {
		return strings.CutPrefix(line, ListeningPrefix)
	}, c.launcher.Command, c.launcher.Member(b.Member)...)
	if err != nil {
		return fmt.Errorf("broker %d: %w", b.Node, err)
	}
	b.process = process
	var dialer net.Dialer
	b.client, err = sequitur.Connect(ctx, b.Listen, sequitur.WithClientName("bench watcher"),
		sequitur.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != b.Listen {
				return nil, fmt.Errorf("not the broker at %s", b.Listen)
			}
			return dialer.DialContext(ctx, network, addr)
		}))
	if err != nil {
		return errors.Join(fmt.Errorf("connect to broker %d: %w", b.Node, err), c.end(b, process.Kill))
	}
	return nil
}

// end ends a broker's process and what belongs to it.
func (c *Cluster) end(b *clusterBroker, how func() error) error {
	err := how()
	if b.client != nil {
		err = errors.Join(err, b.client.Close())
	}
	b.process, b.client = nil, nil
	return err
}

func (c *Cluster) broker(server int) *clusterBroker { return c.brokers[server-1] }

func (c *Cluster) kill(server int) error {
	b := c.broker(server)
	return c.end(b, b.process.Kill)
}

// stop ends a broker in good order.
func (c *Cluster) stop(server int) error {
	b := c.broker(server)
	return c.end(b, b.process.Stop)
}

func (c *Cluster) revive(ctx context.Context, server int) error {
	return c.start(ctx, c.broker(server))
}

// leaderOf is the broker that leads the first partition.
func (c *Cluster) leaderOf(ctx context.Context, stream Stream) (server int, err error) {
	name := stream.(*sequiturStream).spec.Name
	err = c.poll(ctx, "a leader of "+name, func() (string, error) {
		leaders, err := c.leaders(ctx, name)
		if err != nil {
			return "", err
		}
		if server = int(leaders[0]); server == 0 {
			return "there is none", nil
		}
		return "", nil
	})
	return server, err
}

// leaders are the leaders of a topic's partitions, 0 where there is none.
func (c *Cluster) leaders(ctx context.Context, name string) ([]uint32, error) {
	topics, err := c.admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range topics {
		if t.Name != name {
			continue
		}
		leaders := make([]uint32, len(t.Partitions))
		for i, p := range t.Partitions {
			leaders[i] = p.Leader
		}
		if len(leaders) > 0 {
			return leaders, nil
		}
	}
	return nil, fmt.Errorf("topic %s is not known", name)
}

// controller is the broker that leads Raft.
func (c *Cluster) controller(ctx context.Context) (server int, err error) {
	err = c.poll(ctx, "a controller", func() (string, error) {
		node, err := c.admin.Controller(ctx)
		if server = int(node); err == nil && server == 0 {
			return "there is none", nil
		}
		return "", err
	})
	return server, err
}

// stored is how many records each partition of a topic has on a broker's own disk.
func (b *clusterBroker) stored(ctx context.Context, name string) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	t, err := b.client.DescribeTopic(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("ask broker %d: %w", b.Node, err)
	}
	ends := make([]int64, len(t.Stats))
	for i, s := range t.Stats {
		ends[i] = s.End
	}
	return ends, nil
}

// mostStored is the most that any running broker has of each partition.
func (c *Cluster) mostStored(ctx context.Context, name string, but int) (most []int64, err error) {
	for _, b := range c.brokers {
		if b.process == nil || b.Node == but {
			continue
		}
		ends, err := b.stored(ctx, name)
		if err != nil {
			return nil, err
		}
		for i, end := range ends {
			if i == len(most) {
				most = append(most, end)
			}
			most[i] = max(most[i], end)
		}
	}
	return most, nil
}

// behind is how many records a broker lacks of what others have.
func (c *Cluster) behind(ctx context.Context, server int, name string) (lag int64, err error) {
	most, err := c.mostStored(ctx, name, server)
	if err != nil {
		return 0, err
	}
	return c.broker(server).lacks(ctx, name, most)
}

func (b *clusterBroker) lacks(ctx context.Context, name string, wanted []int64) (lag int64, err error) {
	ends, err := b.stored(ctx, name)
	if err != nil {
		return 0, err
	}
	for i, want := range wanted {
		if i >= len(ends) {
			lag += want
			continue
		}
		lag += max(want-ends[i], 0)
	}
	return lag, nil
}

// awaitCopies waits until every broker has everything that any of them has now.
func (c *Cluster) awaitCopies(ctx context.Context, stream Stream) error {
	name := stream.(*sequiturStream).spec.Name
	var most []int64
	var late *clusterBroker
	err := c.poll(ctx, "every broker to have all of "+name, func() (string, error) {
		late = nil
		if most == nil {
			var err error
			if most, err = c.mostStored(ctx, name, 0); err != nil {
				return "", err
			}
		}
		for _, b := range c.brokers {
			lag, err := b.lacks(ctx, name, most)
			if err != nil || lag > 0 {
				late = b
				return fmt.Sprintf("broker %d lacks %d records", b.Node, lag), err
			}
		}
		return "", nil
	})
	if err != nil && late != nil && late.process != nil {
		err = fmt.Errorf("%w; the last that it said:\n%s", err, late.process.output())
	}
	return err
}

// Name tells a cluster from a broker by itself.
func (c *Cluster) Name() string { return fmt.Sprintf("sequitur, %d brokers", len(c.brokers)) }

// Usage is that of all brokers together.
func (c *Cluster) Usage(ctx context.Context) (Usage, bool, error) {
	var sum Usage
	for _, b := range c.brokers {
		if b.process == nil {
			continue
		}
		d, err := c.admin.DescribeBroker(ctx, b.Listen)
		if err != nil {
			return Usage{}, false, fmt.Errorf("describe broker %d: %w", b.Node, err)
		}
		sum.add(usageOf(&d))
	}
	return sum, true, nil
}

// Close ends all brokers and removes their data.
func (c *Cluster) Close() error {
	var errs []error
	if c.sequiturSystem != nil {
		errs = append(errs, c.sequiturSystem.Close())
	}
	errs = append(errs, c.each(func(b *clusterBroker) error {
		if b.process == nil {
			return nil
		}
		if c.launcher.Orderly {
			return c.end(b, b.process.Stop)
		}
		return c.end(b, b.process.Kill)
	}))
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}
