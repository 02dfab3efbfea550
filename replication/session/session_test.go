package session

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/replication/replica"
)

func TestThreeReplicas(t *testing.T) {
	b := newBed(t, 3, inMemory(t), Options{})
	k := b.partitions(1)[0]
	leader := b.elect(k, b.nodes...)
	waitFor(t, leader.at(k), 0) // the start record
	for i := range 20 {
		for acks := replica.AcksLeader; acks <= replica.AcksAll; acks++ {
			r := b.append(k, acks, batch(2, 10))
			require.Equal(t, int64(1+i*6+2*int(acks-1)), r.BaseOffset)
		}
	}
	b.requireSame(k, 121, b.nodes...)
}
