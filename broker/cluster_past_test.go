package broker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/wire"
)

// setReplicas alters a topic's replication factor and waits until it is so.
func (bed *clusterBed) setReplicas(c *sequitur.Client, topic string, rf uint16) {
	bed.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	cfg := sequitur.DefaultTopicConfig()
	cfg.ReplicationFactor = rf
	require.NoError(bed.t, c.AlterTopic(ctx, topic, cfg, wire.MaskReplicationFactor))
	bed.eventually("the replicas are as many as wanted", func(context.Context, *Broker) bool {
		d, err := c.DescribeTopic(ctx, topic)
		require.NoError(bed.t, err)
		for _, p := range d.Partitions {
			if len(p.Replicas) != int(rf) || p.Leader == 0 {
				return false
			}
		}
		return true
	})
}

// restartAfterMoves lets replicas go away and come back, and restarts all brokers. It
// returns how many replicas they removed as they applied the metadata of that past again.
func restartAfterMoves(t *testing.T, breaks followingBreaks) int64 {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "moved", 6, 3)
	bed.create(c, "other", 1, 3)
	l := startLoad(t, c, "moved", 200*time.Microsecond)
	bed.setReplicas(c, "moved", 1)
	// So much of the past that it is not applied in one step.
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	cfg := sequitur.DefaultTopicConfig()
	for i := range 150 {
		cfg.RetentionTime = time.Duration(i+1) * time.Hour
		require.NoError(t, c.AlterTopic(ctx, "other", cfg, wire.MaskRetentionTime))
	}
	bed.setReplicas(c, "moved", 3)
	l.end()
	require.NoError(t, c.Close())
	for i := range bed.brokers {
		bed.stop(i)
	}
	for i := range bed.brokers {
		bed.configs[i].breaks = breaks
		bed.start(i)
	}
	bed.await()
	removed := int64(0)
	for _, b := range bed.brokers {
		removed += b.handler.clustered.following.released.Load()
	}
	if breaks == (followingBreaks{}) {
		l.check(bed.client())
	}
	return removed
}

// At a start a broker applies again where replicas were in the past. That must not take away
// what is here today.
func TestRestartDoesNotActOnThePast(t *testing.T) {
	require.Zero(t, restartAfterMoves(t, followingBreaks{}))
}

func TestTeethRestartActsOnThePast(t *testing.T) {
	require.NotZero(t, restartAfterMoves(t, followingBreaks{releaseOnOldMetadata: true}))
}
