package session

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
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

// What compaction took from the leader's log a follower that comes late cannot get: it
// fills the gaps, and has the same records at the same offsets.
func TestCatchUpOverCompactedGaps(t *testing.T) {
	b := newBed(t, 3, inMemory(t), Options{})
	b.config = log.Config{SegmentBytes: 4 << 10, Compact: true}
	k := b.partitions(1)[0]
	leader := b.elect(k, b.nodes[:2]...)
	waitFor(t, leader.at(k), 0)
	for i := range 200 {
		b.append(k, replica.AcksQuorum, keyed(fmt.Sprint(i%3)))
	}
	before := leader.at(k).Log().Stat().Bytes
	require.NoError(t, leader.store.Compact(true))
	require.Less(t, leader.at(k).Log().Stat().Bytes, before/2)
	b.assign(k, b.nodes[2])
	waitFor(t, b.nodes[2].at(k), 200)
	require.Equal(t, kept(t, leader.at(k)), kept(t, b.nodes[2].at(k)))
	require.Equal(t, leader.at(k).Log().Epochs(), b.nodes[2].at(k).Log().Epochs())
	b.append(k, replica.AcksAll, keyed("x"))
}

func keyed(key string) record.Batch {
	b := record.NewBuilder(0)
	b.Append(1, []byte(key), bytes.Repeat([]byte("v"), 100), nil)
	out, err := b.Build(nil, record.CodecNone, 0, 0, 0)
	if err != nil {
		panic(err)
	}
	return bytes.Clone(out)
}

// kept lists the batches that have records.
func kept(t *testing.T, r *replica.Replica) (offsets []int64) {
	require.NoError(t, r.Log().Batches(r.Start(), func(b record.Batch) error {
		if b.Count() > 0 {
			offsets = append(offsets, b.BaseOffset())
		}
		return nil
	}))
	return offsets
}

// A follower that lacks what the leader's retention has removed begins a new log where
// the leader's begins.
func TestResetBehindRetention(t *testing.T) {
	b := newBed(t, 3, inMemory(t), Options{})
	b.config = log.Config{SegmentBytes: 8 << 10, RetentionBytes: 8 << 10}
	k := b.partitions(1)[0]
	late := b.nodes[2]
	leader := b.elect(k, b.nodes...)
	waitFor(t, leader.at(k), 0)
	b.append(k, replica.AcksAll, batch(1, 100))
	if leader == late {
		t.Fatal("ties go to the lowest node")
	}
	late.manager.Unfollow(k)
	for range 100 {
		b.append(k, replica.AcksQuorum, batch(4, 200))
	}
	leader.store.Retain()
	start := leader.at(k).Start()
	require.Greater(t, start, int64(100))
	require.Equal(t, int64(2), late.at(k).Log().End())
	b.assign(k, late)
	waitFor(t, late.at(k), leader.at(k).HighWatermark()-1)
	require.Equal(t, start, late.at(k).Start())
	end := leader.at(k).HighWatermark()
	require.Equal(t, content(t, leader.at(k), end), content(t, late.at(k), end))
	b.append(k, replica.AcksAll, batch(1, 1))
}
