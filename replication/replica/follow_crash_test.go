package replica

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/txn"
	"github.com/stretchr/testify/require"
)

var (
	me    = replication.Member{Node: 1, Disk: 1}
	other = replication.Member{Node: 2, Disk: 2}
	third = replication.Member{Node: 3, Disk: 3}
	trio  = replication.ReplicaSet{Version: 1, Members: []replication.Member{me, other, third}}
)

// frameOf counts releases.
type frameOf chan struct{}

func (f frameOf) Release() { f <- struct{}{} }

// chief is the leader of each epoch as a follower knows it: a log in memory, cut and
// continued at every change.
type chief struct {
	rng     *rand.Rand
	epoch   uint32
	batches []record.Batch
	hw      int64
	machine *replication.Leader
}

func (c *chief) end() int64 {
	if len(c.batches) == 0 {
		return 0
	}
	return c.batches[len(c.batches)-1].NextOffset()
}

func (c *chief) epochs() (all []replication.EpochStart) {
	for _, b := range c.batches {
		if n := len(all); n == 0 || all[n-1].Epoch != b.LeaderEpoch() {
			all = append(all, replication.EpochStart{Epoch: b.LeaderEpoch(), First: b.BaseOffset()})
		}
	}
	return all
}

// next begins an epoch: a leader that has all that is committed, and perhaps more.
func (c *chief) next() error {
	keep := len(c.batches)
	for keep > 0 && c.batches[keep-1].BaseOffset() >= c.hw && c.rng.IntN(3) > 0 {
		keep--
	}
	c.batches = c.batches[:keep:keep]
	c.epoch++
	var err error
	c.machine, err = replication.NewLeader(replication.LeaderConfig{
		Self: other, Epoch: c.epoch, Set: trio, Epochs: c.epochs(), End: c.end(), HighWatermark: c.hw,
	})
	if err != nil {
		return err
	}
	return c.append(1 + c.rng.IntN(3))
}

func (c *chief) append(n int) error {
	for range n {
		id := uint64(7 + c.rng.IntN(2))
		seq := uint32(0)
		for _, b := range c.batches {
			if b.ProducerID() == id {
				seq = b.NextSequence()
			}
		}
		b := batch(id, 1, seq, 1+c.rng.IntN(4))
		b.Stamp(c.end(), c.epoch, int64(1000+len(c.batches)))
		c.batches = append(c.batches, b)
	}
	return c.machine.Appended(c.end())
}

// from returns the batches from an offset on, at most n.
func (c *chief) from(offset int64, n int) (data []byte, end int64) {
	end = offset
	for _, b := range c.batches {
		if b.BaseOffset() >= offset && n > 0 {
			data, end, n = append(data, b...), b.NextOffset(), n-1
		}
	}
	return data, end
}

// upTo returns the batches below an offset.
func (c *chief) upTo(end int64) []record.Batch {
	n := 0
	for n < len(c.batches) && c.batches[n].NextOffset() <= end {
		n++
	}
	return c.batches[:n:n]
}

// promise is what a follower has said and must not forget.
type promise struct {
	fence   uint32
	durable []record.Batch
	vote    replication.Vote
}

// follow plays a leader against a follower until the steps are done or storage fails.
func follow(b *bed, c *chief, said *promise, steps int) error {
	if err := lead(b, c, said, true); err != nil {
		return err
	}
	for range steps {
		switch c.rng.IntN(8) {
		case 0:
			if err := c.append(1 + c.rng.IntN(3)); err != nil {
				return err
			}
		case 1:
			if err := lead(b, c, said, c.rng.IntN(3) > 0); err != nil {
				return err
			}
		default:
			if err := feed(b, c, said); err != nil {
				return err
			}
		}
	}
	return nil
}

// lead begins an epoch, with the follower's vote or without.
func lead(b *bed, c *chief, said *promise, voted bool) error {
	if err := c.next(); err != nil {
		return err
	}
	if voted {
		result := make(chan error, 1)
		b.Fence(c.epoch, func(v replication.Vote, err error) {
			if err == nil {
				said.fence, said.vote = v.Epoch, v
			}
			result <- err
		})
		if err := <-result; err != nil {
			return err
		}
	}
	return b.Assign(Assignment{Epoch: c.epoch, Leader: other, Set: trio})
}

// feed is one exchange of a session.
func feed(b *bed, c *chief, said *promise) error {
	f, leader, ok := b.NextFetch()
	if !ok {
		return b.store.Err()
	}
	if leader != other {
		return fmt.Errorf("fetch for %v", leader)
	}
	answer, err := c.machine.Fetch(f)
	if err != nil {
		return err
	}
	switch answer.Kind {
	case replication.Truncate:
		// What it said before may go now: a leader was elected without it.
		said.durable = said.durable[:min(len(said.durable), len(c.upTo(answer.Offset)))]
		said.vote = replication.Vote{}
		if err := b.Truncate(c.epoch, answer.CommonEpoch, answer.Offset); err != nil {
			return err
		}
	case replication.Send:
		said.fence = max(said.fence, f.Epoch)
		if counted := c.upTo(min(f.Durable, f.Offset)); len(counted) > len(said.durable) {
			said.durable = counted
		}
		if n := len(said.durable); n > 0 && c.rng.IntN(2) == 0 && f.LastEpoch == c.epoch {
			c.hw = max(c.hw, said.durable[n-1].NextOffset()) // the leader has it, so it is committed
		}
		data, end := c.from(f.Offset, c.rng.IntN(4))
		d := c.machine.Data(f.Offset, end)
		d.HighWatermark = c.hw
		frame := make(frameOf, 1)
		accepted, err := b.Receive(d, bytes.Clone(data), frame)
		if err != nil {
			return err
		}
		if accepted != (len(data) > 0) {
			return fmt.Errorf("[%d, %d) in epoch %d accepted: %t", d.Base, d.End, d.Epoch, accepted)
		}
		if accepted && c.rng.IntN(2) == 0 {
			<-frame // the journal is done with it, well or not
		}
	}
	return nil
}

// kept checks that a follower remembers, after a crash, what it said.
func kept(b *bed, said *promise) error {
	if fence := b.Epoch(); fence < said.fence {
		return fmt.Errorf("fence %d was promised, %d is remembered", said.fence, fence)
	}
	var log []record.Batch
	producers := txn.NewProducers(0)
	if err := b.Log().Batches(0, func(batch record.Batch) error {
		log = append(log, bytes.Clone(batch))
		producers.Apply(batch)
		return batch.Verify()
	}); err != nil {
		return err
	}
	for i, want := range said.durable {
		if i >= len(log) || !bytes.Equal(log[i], want) {
			return fmt.Errorf("offset %d was reported durable and is lost or another: %d of %d batches", want.BaseOffset(), i, len(log))
		}
	}
	last := uint32(0)
	for _, batch := range log {
		if batch.BaseOffset() < said.vote.End {
			last = batch.LeaderEpoch()
		}
	}
	if b.Log().End() < said.vote.End || last != said.vote.LastEpoch && said.vote.End > 0 {
		return fmt.Errorf("voted with %+v, has end %d and epoch %d there", said.vote, b.Log().End(), last)
	}
	if producers.Hash() != b.ProducersHash() {
		return errors.New("producer state differs from a replay of the log")
	}
	return nil
}

// followerCrash runs a follower into a crash at the k-th change of the disk.
func followerCrash(seed uint64, k int64, keep float64, o Options) (done bool, err error) {
	fs := vfs.NewMem(vfs.MemOptions{})
	var fatal error
	o.Self, o.OnFatal = me, func(err error) { fatal = err }
	b, err := tryOpenBed(fs, log.Config{SegmentBytes: 2 << 10}, o)
	if err != nil {
		return false, err
	}
	c := &chief{rng: rand.New(rand.NewPCG(seed, 11))}
	said := &promise{}
	fs.CrashAt(k)
	failed := follow(b, c, said, 60)
	done = failed == nil
	if failed != nil && b.store.Err() == nil && !errors.Is(failed, vfs.ErrCrashed) {
		return false, errors.Join(failed, b.store.Close())
	}
	if b.store.Err() == nil && fatal != nil && !errors.Is(fatal, vfs.ErrCrashed) {
		return false, errors.Join(fatal, b.store.Close())
	}
	if done {
		if err := kept(b, said); err != nil && !errors.Is(err, vfs.ErrCrashed) {
			return false, errors.Join(fmt.Errorf("without a crash: %w", err), b.store.Close())
		}
	}
	after := fs.Crash(keep, rand.New(rand.NewPCG(uint64(k), 3)))
	b.Replica.Close()
	_ = b.store.Close()
	if b, err = tryOpenBed(after, log.Config{}, o); err != nil {
		return false, fmt.Errorf("reopen: %w", err)
	}
	defer func() { err = errors.Join(err, b.store.Close()) }()
	if err := kept(b, said); err != nil {
		return false, fmt.Errorf("after the crash: %w", err)
	}
	// It goes on from there.
	if err := follow(b, c, said, 20); err != nil {
		return false, fmt.Errorf("after the crash: %w", err)
	}
	return done, kept(b, said)
}

func followerCrashes(seeds uint64, o Options) error {
	for seed := range seeds {
		for k := int64(1); ; k++ {
			keep := powerLoss[int(k)%len(powerLoss)]
			done, err := followerCrash(seed, k, keep, o)
			if err != nil {
				return fmt.Errorf("seed %d, crash at change %d, keeping %v: %w", seed, k, keep, err)
			}
			if done {
				break
			}
		}
	}
	return nil
}

func TestFollowersKeepTheirPromises(t *testing.T) {
	t.Parallel()
	require.NoError(t, followerCrashes(12, Options{}))
}

// Each rule switched off alone must be caught by the same rounds.
func TestFollowerTeeth(t *testing.T) {
	for name, o := range map[string]Options{
		"report before it is durable":            {Break: replication.Breakage{CountUnsynced: true}},
		"vote before the fence is durable":       {breaks: breakage{voteEarly: true}},
		"report before the fence is durable":     {breaks: breakage{reportEarly: true}},
		"keep producer state over a truncation":  {breaks: breakage{keepProducers: true}},
		"append what is damaged":                 {breaks: breakage{trustPeers: true}},
		"reuse memory that the journal may read": {breaks: breakage{releaseEarly: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := followerCrashes(10, o)
			if err == nil {
				err = hostile(o)
			}
			require.Error(t, err, "the rule is off and nothing noticed")
			t.Log(err)
		})
	}
}

// hostile checks what crashes do not: damaged bytes and reused memory.
func hostile(o Options) error {
	fs := vfs.NewMem(vfs.MemOptions{})
	o.Self = me
	b, err := tryOpenBed(fs, log.Config{}, o)
	if err != nil {
		return err
	}
	defer b.store.Close()
	c := &chief{rng: rand.New(rand.NewPCG(1, 11))}
	if err := lead(b, c, &promise{}, true); err != nil {
		return err
	}
	data, end := c.from(0, 1)
	for bit := range len(data) * 8 {
		damaged := bytes.Clone(data)
		damaged[bit/8] ^= 1 << (bit % 8)
		if accepted, err := b.Receive(c.machine.Data(0, end), damaged, make(frameOf, 1)); accepted || err == nil {
			return fmt.Errorf("batch with bit %d flipped: accepted %t, %v", bit, accepted, err)
		}
	}
	g := gateJournal(fs)
	g.shut()
	frame := make(frameOf, 1)
	if _, err := b.Receive(c.machine.Data(0, end), data, frame); err != nil {
		return err
	}
	early := len(frame) > 0
	g.unlock()
	<-frame
	if early {
		return errors.New("memory released while the journal may read it")
	}
	return nil
}

func TestHostileData(t *testing.T) { require.NoError(t, hostile(Options{})) }
