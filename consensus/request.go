package consensus

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sequitur-mq/sequitur/wire"
)

// A RequestID names one proposal, so that one whose outcome was not heard of can be
// proposed again: the machine carries it out once. Zero names none.
type RequestID [16]byte

const (
	// kindRequest wraps a command: u8 kind, u8 version, request id, command.
	kindRequest = 255

	// Results of the last rememberedRequests are kept, of as many as
	// rememberedBytes hold: those of the last seconds even in a busy cluster, and
	// whoever waits longer for an answer has given up.
	rememberedRequests = 4096
	rememberedBytes    = 1 << 20
)

// wrap puts a request id before an encoded command.
func wrap(id RequestID, command []byte) []byte {
	dst := make([]byte, 0, 2+len(id)+len(command))
	dst = append(dst, kindRequest, formatVersion)
	dst = append(dst, id[:]...)
	return append(dst, command...)
}

// unwrap undoes wrap; a command that was not wrapped has no id.
func unwrap(data []byte) (RequestID, []byte, error) {
	if len(data) == 0 || data[0] != kindRequest {
		return RequestID{}, data, nil
	}
	d := &decoder{b: data[1:]}
	d.readVersion("request")
	id := RequestID(d.uuid())
	return id, d.b, d.err
}

// answered remembers the results of requests, in the order in which they were applied.
type answered struct {
	byID  map[RequestID][]byte // encoded results
	order []RequestID
	bytes int
}

func (a *answered) find(id RequestID) (Result, bool) {
	data, ok := a.byID[id]
	if !ok {
		return Result{}, false
	}
	r, err := DecodeResult(data)
	if err != nil {
		panic(fmt.Sprintf("remembered result of request %x: %v", id, err)) // checked by Restore
	}
	return r, true
}

func (a *answered) add(id RequestID, r Result) {
	if id == (RequestID{}) {
		return
	}
	a.put(id, EncodeResult(r))
	for len(a.order) > rememberedRequests || a.bytes > rememberedBytes && len(a.order) > 1 {
		oldest := a.order[0]
		a.bytes -= len(a.byID[oldest])
		delete(a.byID, oldest)
		a.order = a.order[1:]
	}
}

func (a *answered) put(id RequestID, result []byte) {
	if a.byID == nil {
		a.byID = map[RequestID][]byte{}
	}
	a.byID[id] = result
	a.order = append(a.order, id)
	a.bytes += len(result)
}

func (a *answered) appendTo(dst []byte) []byte {
	dst = appendCount(dst, len(a.order))
	for _, id := range a.order {
		dst = append(dst, id[:]...)
		dst = appendBytes(dst, a.byID[id])
	}
	return dst
}

func (d *decoder) answered() (a answered) {
	for range d.count(len(RequestID{}) + 1) {
		id, result := RequestID(d.uuid()), append([]byte{}, d.bytes()...)
		if d.err != nil {
			return a
		}
		if _, err := DecodeResult(result); err != nil {
			d.fail(fmt.Sprintf("remembered result: %v", err))
			return a
		}
		if _, twice := a.byID[id]; twice || id == (RequestID{}) {
			d.fail("remembered request twice or without an id")
			return a
		}
		a.put(id, result)
	}
	return a
}

const (
	resultOK      = 0
	resultError   = 1
	resultChanged = 2
)

// EncodeResult encodes what a proposer has to know: all but the changes. Of errors
// that are neither an error of the wire protocol nor ErrChanged the text stays.
func EncodeResult(r Result) []byte {
	dst := []byte{formatVersion}
	dst = appendCount(dst, len(r.Errors))
	for _, err := range r.Errors {
		dst = appendError(dst, err)
	}
	dst = le.AppendUint64(dst, r.Producer.ID)
	dst = le.AppendUint32(dst, r.Producer.Epoch)
	if r.Broker != (Broker{}) {
		dst = r.Broker.appendTo(dst)
	}
	return dst
}

// DecodeResult reads what EncodeResult wrote.
func DecodeResult(data []byte) (r Result, err error) {
	d := &decoder{b: data}
	d.readVersion("result")
	if n := d.count(1); n > 0 {
		r.Errors = make([]error, n)
	}
	for i := range r.Errors {
		r.Errors[i] = d.error()
	}
	r.Producer = NamedProducer{ID: d.u64(), Epoch: d.u32()}
	if d.err == nil && len(d.b) > 0 {
		r.Broker = d.broker()
	}
	if d.err != nil {
		return Result{}, fmt.Errorf("result of a metadata command: %w", d.err)
	}
	return r, nil
}

func appendError(dst []byte, err error) []byte {
	switch status := wire.StatusOf(err); {
	case err == nil:
		return append(dst, resultOK)
	case errors.Is(err, ErrChanged):
		text := strings.TrimSuffix(err.Error(), ErrChanged.Error())
		return appendBytes(append(dst, resultChanged), text)
	default:
		dst = le.AppendUint16(append(dst, resultError), uint16(status.Code))
		dst = appendBytes(dst, status.Message)
		return le.AppendUint32(dst, status.RetryAfterMs)
	}
}

func (d *decoder) error() error {
	switch d.u8() {
	case resultOK:
		return nil
	case resultChanged:
		if text := d.bytes(); len(text) > 0 {
			return fmt.Errorf("%s%w", text, ErrChanged)
		}
		return ErrChanged
	case resultError:
		s := wire.Status{Code: wire.Code(d.u16()), Message: string(d.bytes()), RetryAfterMs: d.u32()}
		if s.Code == wire.CodeNone {
			d.fail("error without a code")
		}
		return s.Err()
	}
	d.fail("unknown kind of error")
	return nil
}
