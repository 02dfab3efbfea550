package broker

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/wire"
)

// All brokers stop, once as planned and once without a word, and come back.
func TestWholeClusterRestarts(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 3, 3)
	l := startLoad(t, c, "orders", 0)
	<-time.After(200 * time.Millisecond)
	l.end()
	require.NoError(t, c.Close())
	for _, stop := range []func(int){bed.kill, bed.stop} {
		for i := range bed.brokers {
			stop(i)
		}
		for i := range bed.brokers {
			bed.start(i)
		}
		bed.await()
		c := bed.client()
		l.check(c)
		require.NoError(t, c.Close())
	}
}

// A rolling restart: producers see no error, and nothing is lost.
func TestRollingRestart(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 6, 3)
	l := startLoad(t, c, "orders", 200*time.Microsecond)
	for i := range bed.brokers {
		bed.stop(i)
		bed.start(i)
		bed.await()
	}
	n := l.end()
	longest, _ := l.longest(0)
	t.Logf("%d records acknowledged, longest pause %v", n, longest)
	l.check(c)
}

// A topic of one replica gets three, and then one again, while records come.
func TestReplicationFactorChanges(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 3, 1)
	l := startLoad(t, c, "orders", 200*time.Microsecond)
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	for _, rf := range []uint16{3, 2, 1, 3} {
		cfg := sequitur.DefaultTopicConfig()
		cfg.ReplicationFactor = rf
		err := c.AlterTopic(ctx, "orders", cfg, wire.MaskReplicationFactor)
		require.NoError(t, err)
		bed.eventually("the replicas are as many as wanted", func(context.Context, *Broker) bool {
			d, err := c.DescribeTopic(ctx, "orders")
			require.NoError(t, err)
			for _, p := range d.Partitions {
				if len(p.Replicas) != int(rf) || p.Leader == 0 {
					return false
				}
			}
			return true
		})
	}
	l.end()
	l.check(c)
}

// A broker by itself becomes the first of a cluster, with what it has.
func TestStandaloneBecomesCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	alone := testConfig(t)
	b, err := Start(ctx, alone)
	require.NoError(t, err)
	bed := &clusterBed{t: t, configs: []Config{{Listen: b.Addr()}}}
	c := bed.client()
	bed.create(c, "orders", 2, 1)
	l := startLoad(t, c, "orders", 0)
	<-time.After(100 * time.Millisecond)
	l.end()
	require.NoError(t, c.Close())
	require.NoError(t, b.Close())

	join := []string{freePort(t), freePort(t)}
	first, second := clusterConfig(t, 0, join), clusterConfig(t, 1, join)
	first.DataDir, first.Join = alone.DataDir, ""
	bed = &clusterBed{t: t, configs: []Config{first, second}, brokers: make([]*Broker, 2)}
	t.Cleanup(bed.close)
	bed.start(0)
	bed.start(1)
	bed.await()
	c = bed.client()
	l.check(c)
	bed.create(c, "more", 2, 2)

	refused := first
	refused.ClusterListen, refused.NodeID = "", 0
	bed.kill(0)
	_, err = Start(ctx, refused)
	require.ErrorContains(t, err, "is that of a broker of a cluster")
}

// A second broker of the same number, and a directory of another cluster, are not
// taken in, and those that are there go on.
func TestRefusedBrokers(t *testing.T) {
	bed := startCluster(t, 2)
	ctx := context.Background()
	twin := bed.configs[1]
	twin.DataDir, twin.Listen, twin.ClusterListen = t.TempDir(), freePort(t), freePort(t)
	other := clusterConfig(t, 6, []string{"", "", "", "", "", "", freePort(t)})
	other.Join = ""
	founder, err := Start(ctx, other)
	require.NoError(t, err)
	select {
	case <-founder.Serving():
	case <-time.After(patience):
		t.Fatal(founder.Ready())
	}
	require.NoError(t, founder.Close())
	other.Join = bed.configs[0].ClusterListen
	for name, cfg := range map[string]Config{"a twin": twin, "of another cluster": other} {
		b, err := Start(ctx, cfg)
		require.NoError(t, err, name)
		if name == "of another cluster" {
			// It is a cluster of its own and stays that, if it is not told first where it
			// has been sent to.
			select {
			case <-b.Serving():
			case err := <-b.Err():
				require.ErrorIs(t, err, ErrNotAdmitted)
			}
			require.NoError(t, b.Close())
			continue
		}
		select {
		case err := <-b.Err():
			require.ErrorIs(t, err, ErrNotAdmitted, name)
			require.ErrorContains(t, err, "node id", name)
		case <-time.After(patience):
			t.Fatalf("%s is not refused: %v", name, b.Ready())
		}
		require.NoError(t, b.Close())
	}
	require.NoError(t, bed.brokers[0].Ready())
	require.NoError(t, bed.brokers[1].Ready())

	wrong := bed.configs[1]
	bed.stop(1)
	wrong.NodeID = 9
	_, err = Start(ctx, wrong)
	require.ErrorContains(t, err, "belong together")
	_, err = os.Stat(filepath.Join(wrong.DataDir, "identity"))
	require.NoError(t, err)
}
