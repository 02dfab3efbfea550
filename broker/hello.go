package broker

import (
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

// Hello, versions 1: the first request of a connection, within the handshake
// timeout. It negotiates the protocol version and tells the limits. Anything else, a wrong
// magic number, or versions that do not meet are answered and the connection
// is closed.

// readHello reads and answers hello. Its errors end the connection.
func (c *conn) readHello() error {
	c.setReadDeadline(time.Now().Add(time.Duration(c.h.cfg.HandshakeTimeout)))
	head, err := c.in.header(wire.FrameLimits{MaxFrameBytes: wire.MaxHelloBytes})
	if err == nil && (head.Kind != wire.KindHello || head.Response()) {
		err = wire.Errorf(wire.CodeInvalidRequest, "the first request must be hello, this is %v", head.Kind)
	}
	if err == nil && head.BatchesLength() != 0 {
		err = wire.Errorf(wire.CodeInvalidRequest, "hello has no batches")
	}
	if err == nil {
		err = wire.CheckVersion(head.Kind, head.Version)
	}
	if err != nil {
		return c.refuse(head, err)
	}
	body := make([]byte, head.BodyLength())
	if err := c.in.body(body, len(body), func() {}); err != nil {
		return c.refuse(head, err)
	}
	resp, err := c.h.hello(body)
	if err != nil {
		return c.refuse(head, err)
	}
	c.h.metrics.requests[wire.KindHello].Add(1)
	c.client = resp.client
	c.begin(0)
	c.answer(head, &resp.HelloResponse, 0)
	c.setReadDeadline(time.Time{})
	return nil
}

type helloAnswer struct {
	wire.HelloResponse
	client string
}

func (h *handler) hello(body []byte) (*helloAnswer, error) {
	var req wire.HelloRequest
	if err := req.Decode(body); err != nil {
		return nil, err
	}
	version, err := wire.Negotiate(req.MinVersion, req.MaxVersion, wire.MinProtocolVersion, wire.MaxProtocolVersion)
	if err != nil {
		return nil, err
	}
	if req.AuthMechanism != "" {
		return nil, wire.Errorf(wire.CodeUnauthorized, "this broker authenticates nobody, the client offers %q: connect without credentials", req.AuthMechanism)
	}
	return &helloAnswer{
		client: req.ClientName,
		HelloResponse: wire.HelloResponse{
			Version:          version,
			BrokerID:         h.node,
			ClusterID:        h.cluster,
			BrokerVersion:    h.cfg.Version,
			MaxFrameBytes:    uint32(h.cfg.MaxFrameBytes),
			MaxBatchBytes:    wire.MaxBatchBytes,
			MaxInflightBytes: uint32(min(h.cfg.ConnectionBytes, 1<<32-1)),
			APIs:             wire.APIs(),
		},
	}, nil
}
