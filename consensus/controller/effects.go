package controller

import (
	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/replication"
	"github.com/sequitur-mq/sequitur/wire"
)

// An Effect is something that the driver is to do.
type Effect interface{ effect() }

// Propose has a command proposed; the outcome comes back by Proposed.
type Propose struct {
	ID      uint64
	Command consensus.Command
}

// SendFence asks a broker's replicas to adopt epochs and to vote, all in one request;
// the answer comes back by Fenced.
type SendFence struct {
	ID    uint64
	Node  uint32
	Term  uint64
	Items []FenceItem
}

// FenceItem is one partition of SendFence.
type FenceItem struct {
	Topic     wire.UUID
	Partition uint32
	Epoch     uint32
}

// Ballot is what a broker answered to one FenceItem.
type Ballot struct {
	Vote replication.Vote
	Err  error // no vote
}

// SendProbe asks a broker over a new connection who it is; the answer comes back by
// Probed.
type SendProbe struct {
	ID   uint64
	Node uint32
}

// Reply answers a request of an administrator or of a leaving broker.
type Reply struct {
	ID      uint64
	Err     error
	Leaders int // partitions that the leaving broker leads still
}

// Note is for the log.
type Note struct {
	Warn bool
	Text string
}

func (Propose) effect()   {}
func (SendFence) effect() {}
func (SendProbe) effect() {}
func (Reply) effect()     {}
func (Note) effect()      {}
