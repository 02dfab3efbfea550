package broker

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/wire"
)

// A handler is everything that requests need; each kind of request is a file of
// methods of it.
type handler struct {
	cfg       *Config
	log       *slog.Logger
	now       func() time.Time
	metrics   *metrics
	node      uint32
	cluster   wire.UUID
	served    [maxKinds]wire.API // by kind
	advertise string             // address of the native protocol, as clients are told

	meta      metadata
	topics    *topics
	producers *producers
	describe  func() Description
	clustered *clustered  // nil on a broker by itself
	leaving   atomic.Bool // others take over: nothing is appended here any more

	produces    produceRequests
	fetches     fetches
	stagings    stagings
	fetchBudget *budget
}

// metadata is what requests need of package consensus. On a cluster of one
// broker it is a consensus.Local.
type metadata interface {
	// Propose calls done once, on a goroutine that must not be held up.
	Propose(c consensus.Command, done func(consensus.Result, error))
	// View calls fn with the state of the moment, which must not be kept.
	View(fn func(*consensus.Machine))
}
