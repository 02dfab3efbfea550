package broker

import "github.com/prometheus/client_golang/prometheus"

// Cluster is the figures of a broker as one of a cluster.
type Cluster struct {
	Member          bool   // it is one; all else is 0 if not
	Replicas        uint64 // on this broker
	Leaders         uint64 // of those, led here
	Followers       uint64 // of those, following others
	UnderReplicated uint64 // led here, with a replica that lags or is away
	Suspects        uint64 // replicas with damage
	MaxLag          uint64 // offsets by which the slowest replica of a partition led here is behind
	RaftLeader      bool
	RaftTerm        uint64
	RaftCommit      uint64
	RaftApplied     uint64
	RaftVoters      uint64
}

// underReplicatedLag is the lag in offsets from which on a replica counts as missing.
const underReplicatedLag = 10_000

// cluster is the figures of this moment.
func (b *Broker) cluster() (s Cluster) {
	c := b.handler.clustered
	if c == nil {
		return s
	}
	st := c.raft.Stats()
	s = Cluster{
		Member: true, RaftLeader: c.raft.IsLeader(), RaftTerm: st.Term, RaftCommit: st.Commit, RaftApplied: st.Applied, RaftVoters: uint64(st.Voters),
	}
	c.following.count(&s)
	return s
}

// count looks at every replica.
func (f *following) count(s *Cluster) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.Replicas, s.Leaders = uint64(len(f.held)), uint64(len(f.led))
	s.Followers = s.Replicas - s.Leaders
	for id, p := range f.held {
		r := p.replica.Load()
		if r == nil {
			continue
		}
		st := r.State()
		if st.Suspect {
			s.Suspects++
		}
		if _, leads := f.led[id]; !leads {
			continue
		}
		behind := false
		for _, other := range st.Followers {
			s.MaxLag = max(s.MaxLag, uint64(max(other.Lag, 0)))
			behind = behind || other.Lag > underReplicatedLag
		}
		if behind {
			s.UnderReplicated++
		}
	}
}

// Gatherer has the metrics of the controller, which are kept where it is in office.
func (b *Broker) Gatherer() prometheus.Gatherer { return b.registry }
