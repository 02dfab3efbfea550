package sequitur

import (
	"context"
)

// Client is a connection to a cluster. It is safe for concurrent use.
type Client struct {
	opts clientOptions
}

// Connect reaches one of the servers, "host:port" separated by commas, and learns the
// cluster's brokers from it. It tries each server once and fails with
// [ErrUnreachable] when none answers.
func Connect(ctx context.Context, servers string, opts ...Option) (*Client, error) {
	c := &Client{opts: defaultClientOptions()}
	for _, o := range opts {
		o(&c.opts)
	}
	return nil, errNotYet("connect to " + servers)
}

// Close closes all connections. Producers and consumers of the client fail with
// [ErrClosed] from then on; records not yet acknowledged are given up, so close
// producers first. It waits for the client's goroutines.
func (c *Client) Close() error { return nil }

func errNotYet(op string) error {
	return &Error{Op: op, Code: "UNSUPPORTED", Partition: -1, Message: "not there yet"}
}
