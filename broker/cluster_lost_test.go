package broker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/wire"
)

// The broker that is left of three says that there is no controller and why, at once
// rather than after all patience is spent on the others.
func TestStatusWithoutAMajority(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	_, err := c.ClusterStatus(t.Context())
	require.NoError(t, err)
	left := bed.brokers[2]
	for voters := 0; voters < 3 || left.handler.clustered.raft.Stats().Voters < 3; {
		voters = 0
		left.handler.clustered.meta.View(func(m *consensus.Machine) {
			for _, b := range m.Brokers() {
				if b.Voter {
					voters++
				}
			}
		})
		<-time.After(time.Millisecond)
	}
	bed.kill(0)
	bed.kill(1)

	const text = "no controller: a majority of the Raft voters must be up; voters: 1 (unreachable), 2 (unreachable), 3 (this broker)"
	_, controller := left.handler.clustered.brokers()
	for controller != 0 { // until it has noticed
		<-time.After(time.Millisecond)
		_, controller = left.handler.clustered.brokers()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = c.ClusterStatus(ctx)
	require.ErrorContains(t, err, text)
	require.NotContains(t, err.Error(), "refused")
	asker := connect(t, left)
	var status wire.ClusterStatusResponse
	asker.call(wire.KindClusterStatus, &wire.ClusterStatusRequest{}, &status)
	require.Equal(t, wire.CodeTimeout, status.Code)
	var change wire.ClusterChangeResponse
	asker.call(wire.KindClusterChange, &wire.ClusterChangeRequest{Action: "rebalance"}, &change)
	require.Equal(t, wire.CodeTimeout, change.Code)
	require.Equal(t, text, change.Message)
}
