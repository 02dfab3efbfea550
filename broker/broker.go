package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sequitur-mq/sequitur/broker/dedup"
	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/replication/replica"
	"github.com/sequitur-mq/sequitur/wire"
)

// A Broker is a running broker.
type Broker struct {
	cfg     Config
	log     *slog.Logger
	started time.Time

	store   *log.Store
	ids     *dedup.Index
	meta    consensus.Driver
	topics  *topics
	handler *handler
	server  *server
	ready   chan struct{} // closed when clients are served

	registry *prometheus.Registry // of the controller

	fatal    chan error    // holds the first failure
	failed   chan struct{} // closed after it
	failure  atomic.Pointer[error]
	stopping atomic.Bool
	stop     sync.Once
	stopped  error
}

// Start starts a broker: when it returns, clients are served, in a cluster once
// Serving says so. Errors say what to do; those of the data directory are log's (errors.Is with log.ErrLocked,
// log.ErrCorrupt, log.ErrVersion). ctx bounds nothing but the start.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start the broker: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	b := &Broker{cfg: cfg, log: cfg.Logger, started: time.Now(), fatal: make(chan error, 1), ready: make(chan struct{}), failed: make(chan struct{}), registry: prometheus.NewRegistry()}
	b.tune()
	// The address first: whoever starts a second broker by mistake learns it
	// before anything is touched. Nobody is answered before all is open.
	ports, err := b.listen(ctx)
	if err != nil {
		return nil, err
	}
	if err = b.open(ports); err != nil && b.damaged(err) {
		ports, err = b.openAnew(ctx, ports, err)
	}
	if err != nil {
		ports.close()
		return nil, err
	}
	if b.handler.clustered == nil {
		b.serve()
	}
	return b, nil
}

// openAnew begins with an empty directory in the place of a damaged one.
func (b *Broker) openAnew(ctx context.Context, old *ports, damage error) (*ports, error) {
	if err := b.moveAside(damage); err != nil {
		return old, errors.Join(damage, err)
	}
	old.close()
	next, err := b.listen(ctx)
	if err != nil {
		return old, err
	}
	b.store, b.meta, b.handler = nil, nil, nil
	return next, b.open(next)
}

// serve begins to serve clients.
func (b *Broker) serve() {
	b.server.start()
	close(b.ready)
}

// Serving is closed when clients are served. In a cluster that is when the broker
// has joined and has caught up with the metadata; Ready tells what is missing.
func (b *Broker) Serving() <-chan struct{} { return b.ready }

// tune sets what belongs to the process rather than to a broker.
func (b *Broker) tune() {
	if err := raiseFileLimit(); err != nil {
		b.log.Warn("the limit of open files was not raised", "error", err)
	}
	if _, set := os.LookupEnv("GOGC"); !set && b.cfg.GCPercent > 0 {
		debug.SetGCPercent(b.cfg.GCPercent)
	}
	if _, set := os.LookupEnv("GOMEMLIMIT"); !set && b.cfg.MemoryLimit > 0 {
		debug.SetMemoryLimit(int64(b.cfg.MemoryLimit))
	}
}

// open opens everything from the disk up. What was opened is closed again if
// something fails.
func (b *Broker) open(ports *ports) (err error) {
	if b.store, err = b.openStore(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			b.closeMeta()
			err = errors.Join(err, b.store.Close())
		}
	}()
	b.ids = b.newDedup()
	b.topics = newTopics(b.store, b.ids, b.log, b.openReplica)
	h := &handler{
		cfg: &b.cfg, log: b.log, now: time.Now, metrics: &metrics{},
		node: b.store.Identity().Node, cluster: wire.UUID(b.store.Identity().Cluster),
		advertise: b.cfg.Advertise, topics: b.topics, describe: b.Describe,
		fetchBudget: newBudget(int64(b.cfg.FetchMemoryBytes)),
	}
	for _, api := range wire.APIs() {
		h.served[api.Kind] = api
	}
	if h.advertise == "" {
		h.advertise = ports.clients.Addr().String()
	}
	b.handler = h
	if err := b.openMeta(h, ports); err != nil {
		return err
	}
	h.meta = b.meta
	var purge []wire.UUID
	b.meta.View(func(m *consensus.Machine) {
		h.producers = newProducers(m)
		h.producers.shared = h.clustered != nil
		purge, err = b.topics.load(m)
	})
	if err != nil {
		return fmt.Errorf("take over the metadata: %w", err)
	}
	b.server = newServer(h, ports.clients)
	if h.clustered != nil {
		return b.beginClustered(h.clustered)
	}
	b.purge(purge)
	return nil
}

// openMeta opens the metadata: of a cluster, or of a broker by itself.
func (b *Broker) openMeta(h *handler, ports *ports) (err error) {
	if ports.cluster == nil {
		local, err := b.openLocal()
		if err == nil {
			b.meta = local
		}
		return err
	}
	if h.clustered, err = b.openClustered(ports); err == nil {
		b.meta = h.clustered.raft
	}
	return err
}

func (b *Broker) openLocal() (*consensus.Local, error) {
	if _, there := b.store.Partition(consensus.RaftLogID); there {
		return nil, fmt.Errorf("the data directory %s is that of a broker of a cluster: start it with cluster-listen and node-id %d", b.cfg.DataDir, b.store.Identity().Node)
	}
	return consensus.OpenLocal(b.store, consensus.LocalOptions{Logger: b.log, OnChanges: b.changed})
}

func (b *Broker) openStore() (*log.Store, error) {
	dir, err := filepath.Abs(b.cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if b.cfg.clustered() {
		if err := b.prepareClustered(dir); err != nil {
			return nil, err
		}
	}
	b.cfg.fitToDisk(diskSize(b.cfg.fs, dir))
	return log.Open(dir, log.Options{
		FS:                 b.cfg.fs,
		Logger:             b.log,
		OnFatal:            b.fail,
		JournalFileBytes:   int64(b.cfg.JournalFileBytes),
		JournalMaxBytes:    int64(b.cfg.JournalBytes),
		TailBytes:          int64(b.cfg.TailBytes),
		ReserveBytes:       int64(b.cfg.ReserveBytes),
		CheckpointInterval: time.Duration(b.cfg.CheckpointInterval),
		RetentionInterval:  time.Duration(b.cfg.RetentionInterval),
		ScrubInterval:      time.Duration(orOff(b.cfg.ScrubInterval)),
	})
}

// orOff turns our 0 for "off" into the log's, which is negative.
func orOff[T ~int64](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

func (b *Broker) openReplica(p *log.Partition) (*replica.Replica, error) {
	o := replica.Options{Self: replication.Member{Node: max(1, b.store.Identity().Node)}, Solo: true, Logger: b.log, OnFatal: b.fail}
	if f := b.topics.cluster; f != nil {
		o.Self, o.Solo = *f.self.Load(), false
	}
	return replica.Open(p, o)
}

// changed follows the metadata, on the goroutine of its driver.
func (b *Broker) changed(changes []consensus.Change) {
	c := b.handler.clustered
	if c == nil {
		b.purge(b.topics.changed(changes))
		return
	}
	for _, change := range changes {
		switch change.Kind {
		case consensus.BrokersChanged:
			c.raft.View(c.following.know)
		case consensus.ProducerRaised:
			b.handler.producers.raise(change.Producer.ID, change.Producer.Epoch)
		}
	}
	b.topics.changed(changes)
	c.driver.Changed(changes)
}

// purge drops the tombstones of topics that are gone from disk. If that fails
// the next start does it.
func (b *Broker) purge(gone []wire.UUID) {
	if len(gone) > 0 {
		b.meta.Propose(consensus.PurgeTopics{IDs: gone}, func(consensus.Result, error) {})
	}
}

// fail reports the first failure that ends the broker.
func (b *Broker) fail(err error) {
	if b.failure.CompareAndSwap(nil, &err) {
		b.fatal <- err
		close(b.failed)
	}
}

// Addr is the address that the native protocol is served on.
func (b *Broker) Addr() string { return b.server.listener.Addr().String() }

// Err receives the failure that makes the broker useless: storage that cannot be
// trusted any more. Nothing is acknowledged after it; the caller shuts the
// broker down and ends the process.
func (b *Broker) Err() <-chan error { return b.fatal }

// Failed is closed when Err has something.
func (b *Broker) Failed() <-chan struct{} { return b.failed }

// Health returns nil, or why the process cannot recover by itself.
func (b *Broker) Health() error {
	if err := b.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Ready returns nil, or why requests are not served at present.
func (b *Broker) Ready() error {
	switch {
	case b.stopping.Load():
		return errDraining
	case b.Health() != nil:
		return b.Health()
	case b.waiting() != "":
		return errors.New("not yet of the cluster: " + b.waiting())
	case b.store.Stats().Full:
		return log.ErrStorageFull
	}
	return nil
}

// waiting is what a broker of a cluster waits for before it serves.
func (b *Broker) waiting() string {
	if b.handler.clustered == nil {
		return ""
	}
	return b.handler.clustered.node.Waiting()
}

// Shutdown stops the broker: no more connections and requests, what is in
// flight is answered, within ctx and the shutdown timeout, then the log is
// closed, so that the next start has nothing to recover. Further calls wait
// for the first and return the same.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.stop.Do(func() {
		b.stopping.Store(true)
		ctx, cancel := context.WithTimeout(ctx, time.Duration(b.cfg.ShutdownTimeout))
		defer cancel()
		b.leave(ctx)
		b.server.stop(ctx)
		b.closeMeta()
		err := b.ids.Close() // it looks at the log once more
		b.topics.close()
		b.stopped = errors.Join(err, b.store.Close())
	})
	return b.stopped
}

// closeMeta ends the metadata and, in a cluster, everything between brokers.
func (b *Broker) closeMeta() {
	if b.meta == nil {
		return
	}
	c := b.handler.clustered
	if c != nil {
		c.close()
	}
	b.meta.Close()
	if c != nil {
		c.driver.Close()
	}
}

// Close is Shutdown without a limit but the shutdown timeout.
func (b *Broker) Close() error { return b.Shutdown(context.Background()) }
