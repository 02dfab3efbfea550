package admin

import "github.com/sequitur-mq/sequitur/broker"

// A Source is what this package needs of a broker. All methods may be called
// concurrently and at any time.
type Source interface {
	// Health returns nil, or why the process cannot recover by itself.
	Health() error
	// Ready returns nil, or why requests are not served at present.
	Ready() error
	// Snapshot returns the figures of this moment.
	Snapshot() Snapshot
}

// The shapes of a broker's figures; their fields are documented in package
// broker.
type (
	Snapshot     = broker.Snapshot
	Topic        = broker.Topic
	Storage      = broker.Storage
	Dedup        = broker.Dedup
	Cluster      = broker.Cluster
	Distribution = broker.Distribution
	Bucket       = broker.Bucket
	Quantiles    = broker.Quantiles
)
