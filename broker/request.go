package broker

import (
	"fmt"

	"github.com/sequitur-mq/sequitur/wire"
)

// A request is one frame that was read whole and is in flight: it has a share
// of its connection and of the broker's memory until it is answered.
type request struct {
	c     *conn
	head  wire.FrameHeader
	grant grant
	buf   *buffer
}

func (r *request) metadata() []byte { return r.buf.bytes[:r.head.MetadataLength] }

func (r *request) batches() []byte {
	return r.buf.bytes[r.head.MetadataLength:r.head.BodyLength()]
}

// release gives the frame's memory back. Nothing may point into it any more.
func (r *request) release() {
	if r.buf != nil {
		r.c.s.buffers.put(r.buf)
		r.c.s.budget.release(r.grant)
		r.buf = nil
	}
}

// cost is what the request counts for in its connection's share.
func (r *request) cost() int64 { return bufferCost(r.head.BodyLength() + frameSlack) }

// answer answers the request and ends it.
func (r *request) answer(m wire.Message) {
	r.release()
	r.c.answer(r.head, m, r.cost())
}

// fail answers the request with an error and ends it.
func (r *request) fail(err error) {
	err = r.c.h.wireError(err)
	r.c.h.metrics.errors.count(wire.CodeOf(err))
	r.answer(&statusOnly{Status: wire.StatusOf(err)})
}

// malformed ends a request that cannot be read. The connection ends with it,
// and answers the error that is returned.
func (r *request) malformed(err error) error {
	r.release()
	r.c.end(r.cost())
	return err
}

// statusOnly is a response of any kind that failed as a whole: every response
// begins with its status, and one that failed has nothing else.
type statusOnly = wire.AlterTopicResponse

// decode reads the metadata of a control request and gives the frame back.
func (r *request) decode(m wire.Message) error {
	if err := m.Decode(r.metadata()); err != nil {
		return r.malformed(err)
	}
	r.release()
	return nil
}

// handle handles one request on the connection's read goroutine. Its error ends
// the connection.
func (h *handler) handle(r request) error {
	switch r.head.Kind {
	case wire.KindProduce:
		return h.produce(r)
	case wire.KindFetch:
		return h.fetch(r)
	case wire.KindMetadata:
		return h.metadata(r)
	case wire.KindListOffsets:
		return h.listOffsets(r)
	case wire.KindCreateTopics:
		return h.createTopics(r)
	case wire.KindDescribeTopics:
		return h.describeTopics(r)
	case wire.KindAlterTopic:
		return h.alterTopic(r)
	case wire.KindDeleteTopics:
		return h.deleteTopics(r)
	case wire.KindInitProducer:
		return h.initProducer(r)
	case wire.KindDescribeBroker:
		return h.describeBroker(r)
	case wire.KindClusterStatus:
		return h.clusterStatus(r)
	case wire.KindClusterChange:
		return h.clusterChange(r)
	}
	return r.malformed(wire.Errorf(wire.CodeUnsupportedVersion, "request kind %v is not served", r.head.Kind))
}

// maxNames bounds the topics that one request may name, and so what its answer
// costs.
const maxNames = 20_000

func checkNames(names []string) error {
	if len(names) > maxNames {
		return wire.Errorf(wire.CodeInvalidRequest, "%d topics are named, at most %d may be: ask in parts", len(names), maxNames)
	}
	seen := make(map[string]struct{}, len(names))
	for _, name := range names {
		if _, twice := seen[name]; twice {
			return wire.Errorf(wire.CodeInvalidRequest, "topic %q is named twice", name)
		}
		seen[name] = struct{}{}
	}
	return nil
}

// tooLong is the error for an answer that no client would take.
func tooLong(size, limit int64) error {
	return fmt.Errorf("the answer has %d bytes: %w", size,
		wire.Errorf(wire.CodeFrameTooLarge, "at most %d are sent: ask for fewer topics at a time", limit))
}
