package broker

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/wire"
)

// A clusterBed is brokers of one cluster in this process, on ports that stay
// theirs.
type clusterBed struct {
	t       testing.TB
	configs []Config
	brokers []*Broker // nil: stopped
}

// givenPorts are those that freePort has returned.
var givenPorts sync.Map

// freePort returns a port of loopback that nothing listens on, below those that the
// kernel gives to outgoing connections: it stays free until it is listened on.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000)))
		if err != nil {
			continue
		}
		addr := l.Addr().String()
		l.Close()
		if _, given := givenPorts.LoadOrStore(addr, true); !given {
			return addr
		}
	}
	t.Fatal("no free port in a hundred tries")
	return ""
}

// clusterConfig is the configuration of broker i, counted from 0.
func clusterConfig(t testing.TB, i int, join []string) Config {
	cfg := testConfig(t)
	cfg.NodeID, cfg.Listen, cfg.ClusterListen = i+1, freePort(t), join[i]
	cfg.Join = strings.Join(join, ",")
	cfg.ShutdownTimeout = Duration(5 * time.Second)
	if testing.Verbose() && os.Getenv("SEQUITUR_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("at", i+1)
	}
	return cfg
}

// startCluster starts n brokers at once and waits until all of them serve.
func startCluster(t testing.TB, n int) *clusterBed {
	t.Helper()
	bed := &clusterBed{t: t}
	var join []string
	for range n {
		join = append(join, freePort(t))
	}
	for i := range n {
		bed.configs = append(bed.configs, clusterConfig(t, i, join))
		bed.brokers = append(bed.brokers, nil)
	}
	t.Cleanup(bed.close)
	for i := range n {
		bed.start(i)
	}
	bed.await()
	return bed
}

func (bed *clusterBed) start(i int) {
	bed.t.Helper()
	b, err := Start(context.Background(), bed.configs[i])
	require.NoError(bed.t, err)
	bed.brokers[i] = b
}

// await waits until every broker that runs serves clients.
func (bed *clusterBed) await() {
	bed.t.Helper()
	for i, b := range bed.brokers {
		if b == nil {
			continue
		}
		select {
		case <-b.Serving():
		case err := <-b.Err():
			bed.t.Fatalf("broker %d failed: %v", i+1, err)
		case <-time.After(patience):
			bed.t.Fatalf("broker %d does not serve: %v", i+1, b.Ready())
		}
	}
}

// stop stops a broker as planned.
func (bed *clusterBed) stop(i int) {
	bed.t.Helper()
	require.NoError(bed.t, bed.brokers[i].Close())
	bed.brokers[i] = nil
}

// kill stops a broker without a word to the others.
func (bed *clusterBed) kill(i int) {
	bed.t.Helper()
	b := bed.brokers[i]
	bed.brokers[i] = nil
	b.abandon()
}

func (bed *clusterBed) close() {
	for i := range bed.brokers {
		if bed.brokers[i] != nil {
			bed.kill(i)
		}
	}
}

// abandon ends a broker as a kill would, as far as one process can: connections
// break and nobody is told.
func (b *Broker) abandon() {
	b.stop.Do(func() {
		b.stopping.Store(true)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if b.handler.clustered != nil {
			b.handler.clustered.close()
		}
		b.server.stop(ctx)
		b.closeMeta()
		_ = b.ids.Close()
		b.topics.close()
		b.stopped = b.store.Close()
	})
}

func (bed *clusterBed) servers() string {
	var addrs []string
	for _, c := range bed.configs {
		addrs = append(addrs, c.Listen)
	}
	return strings.Join(addrs, ",")
}

func (bed *clusterBed) client(opts ...sequitur.Option) *sequitur.Client {
	bed.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := sequitur.Connect(ctx, bed.servers(), opts...)
	require.NoError(bed.t, err)
	bed.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (bed *clusterBed) create(c *sequitur.Client, name string, partitions uint32, rf uint16) {
	bed.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cfg := sequitur.DefaultTopicConfig()
	cfg.Partitions, cfg.ReplicationFactor = partitions, rf
	require.NoError(bed.t, c.CreateTopic(ctx, name, cfg))
}

// leader is the index of the broker that leads a partition.
func (bed *clusterBed) leader(c *sequitur.Client, topic string, partition int) int {
	bed.t.Helper()
	for i, b := range bed.brokers {
		if b == nil {
			continue
		}
		nc := connect(bed.t, b)
		var resp wire.MetadataResponse
		nc.call(wire.KindMetadata, &wire.MetadataRequest{Topics: []string{topic}}, &resp)
		require.NoError(bed.t, resp.Err())
		if l := resp.Topics[0].Partitions[partition].Leader; l != 0 {
			return int(l) - 1
		}
		_ = i
	}
	return -1
}

func keyOf(i int) []byte { return fmt.Appendf(nil, "key-%d", i%7) }
