package sim

import "github.com/sequitur-mq/sequitur/replication"

type messageKind uint8

const (
	fetchRequest messageKind = iota + 1
	fetchData
	fetchTruncate
	fetchReset
	fenceRequest
	fenceVote
	heartbeat
	produceRequest
	produceAnswer
	endRequest
	endAnswer
	registerRequest
	probeRequest
	probeAnswer
	probeTimeout
	fenceTimeout
)

// message is one message of any kind. Endpoints: brokers, then controllers, then clients.
type message struct {
	kind     messageKind
	from, to uint8
	life     uint32 // connection: answers reach only the process that asked; 0 for requests

	fetch  replication.Fetch
	again  bool // the fetch says that answers may have been lost
	data   replication.Data
	recs   [batchMax]rec
	count  uint8 // of recs
	answer replication.Answer
	epoch  uint32
	vote   replication.Vote

	sender   uint32 // process life of the sender
	disk     uint32
	suspect  bool
	serving  bool   // the leader of epoch serves
	learners uint32 // caught-up learners, one bit per broker

	value   uint32 // of a record
	attempt int32
	acks    acks
	offset  int64
	result  result
	id      uint64 // of a call
}

type acks uint8

const (
	acksLeader acks = iota
	acksQuorum
	acksAll
)

type result uint8

const (
	done result = iota
	notLeader
	refused
)

// batchMax is how many records go into one message at most.
const batchMax = 8

// network moves messages.
type network struct {
	slab    []*message
	free    []int32
	blocked [16][16]bool

	loss, duplication, slow float64 // per message
	delay                   int64   // greatest usual delay, microseconds
}

// send puts a copy of m on its way.
func (s *Sim) send(m message) {
	n := &s.network
	if m.from < 16 && m.to < 16 && n.blocked[m.from][m.to] {
		return
	}
	if n.loss > 0 && s.chance(n.loss) {
		return
	}
	s.post(m)
	if n.duplication > 0 && s.chance(n.duplication) {
		s.post(m)
	}
}

func (s *Sim) post(m message) {
	n := &s.network
	delay := 200 + s.upTo(n.delay)
	if n.slow > 0 && s.chance(n.slow) {
		delay += s.upTo(60 * n.delay)
	}
	s.postIn(delay, m)
}

// postIn delivers a message for sure.
func (s *Sim) postIn(delay int64, m message) {
	n := &s.network
	var i int32
	if k := len(n.free); k > 0 {
		i, n.free = n.free[k-1], n.free[:k-1]
	} else {
		i = int32(len(n.slab))
		n.slab = append(n.slab, new(message))
	}
	*n.slab[i] = m
	s.queue.push(event{at: s.now + delay, kind: onMessage, who: m.to, arg: i})
}

// take ends the way of a message.
func (n *network) take(i int32) message {
	m := *n.slab[i]
	n.free = append(n.free, i)
	return m
}
