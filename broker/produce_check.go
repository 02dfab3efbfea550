package broker

import (
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// check parses the batches of a part, checks them against the topic's limits
// and their checksums, and returns the first one. This is the only time that
// the broker computes the payload CRC of a batch on its way in.
func (p *produceRequest) check(i int, config *wire.TopicConfig, batches []byte) (first record.Batch, err error) {
	limits := record.DefaultLimits()
	limits.MaxBatchBytes = int(config.MaxBatchBytes)
	if len(batches) == 0 {
		return nil, wire.Errorf(wire.CodeInvalidRequest, "the part has no batch")
	}
	for rest := batches; len(rest) > 0; {
		var b record.Batch
		if b, rest, err = record.Parse(rest, limits); err != nil {
			return nil, err
		}
		if err := checkBatch(b); err != nil {
			return nil, err
		}
		if err := b.VerifyPayload(); err != nil {
			return nil, err
		}
		if err := p.checkRecords(b, limits); err != nil {
			return nil, err
		}
		if first == nil {
			first = b
		}
		p.parts[i].records += b.Count()
		p.parts[i].batches++
	}
	return first, nil
}

// checkBatch refuses batches that no producer may send.
func checkBatch(b record.Batch) error {
	switch attrs := b.Attributes(); {
	case attrs.Control():
		return wire.Errorf(wire.CodeInvalidRequest, "control batches are the broker's own: clear bit 3 of the attributes")
	case attrs.Transactional():
		return wire.Errorf(wire.CodeUnsupported, "transactions are not there yet: clear bit 4 of the attributes")
	case !b.Dense():
		return wire.Errorf(wire.CodeInvalidRequest, "the batch has %d records for %d offsets: a producer sends every record", b.Count(), uint64(b.LastOffsetDelta())+1)
	}
	return nil
}

// checkRecords walks through the records of a batch that is not compressed, so
// that a client that counts or encodes wrongly is told at once, and no consumer
// meets a batch that nobody can read. Compressed records are checked by whoever
// decompresses them: memory for it is not the broker's to give to any sender.
func (p *produceRequest) checkRecords(b record.Batch, limits record.Limits) error {
	if b.Attributes().Codec() != record.CodecNone {
		return nil
	}
	if err := p.reader.Reset(b, nil, limits); err != nil {
		return err
	}
	for {
		more, err := p.reader.Next(&p.rec)
		if err != nil || !more {
			return err
		}
	}
}
