package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

const (
	// randomBlock is what random payloads are cut from: far more than a compressor's window for small batches.
	randomBlock     = 4 << 20
	maxPayloadBytes = 16 << 20
	maxPayloadFile  = 1 << 30
	// stampBytes is the head of a payload that carries the intended time of sending in end-to-end measurements.
	stampBytes = 8
)

// PayloadSpec says what the records carry: Size random bytes each, or the lines of File in turn.
type PayloadSpec struct {
	Size int    `json:"size,omitempty"`
	File string `json:"file,omitempty"`
}

// Payloads gives the value of record i. It is immutable, so any number of senders may share it.
type Payloads struct {
	block []byte   // random bytes; values are windows of it
	size  int      // of a window
	lines [][]byte // or real lines
	text  string
}

// LoadPayloads makes the payloads of spec. Lines end with LF, which is not part of the value; every other byte is kept.
func LoadPayloads(spec PayloadSpec) (*Payloads, error) {
	if spec.File != "" {
		return loadLines(spec.File)
	}
	if spec.Size < 0 || spec.Size > maxPayloadBytes {
		return nil, fmt.Errorf("payload size %d: choose 0 to %d bytes", spec.Size, maxPayloadBytes)
	}
	block := make([]byte, randomBlock+spec.Size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(block) // never fails; a fixed seed, so that runs are alike
	return &Payloads{block: block, size: spec.Size, text: fmt.Sprintf("%d random bytes", spec.Size)}, nil
}

func loadLines(name string) (*Payloads, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read payload file: %w", err)
	}
	if info.Size() > maxPayloadFile {
		return nil, fmt.Errorf("payload file %s has %d bytes; give one of at most %d", name, info.Size(), maxPayloadFile)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read payload file: %w", err)
	}
	data = bytes.TrimSuffix(data, []byte{'\n'})
	if len(data) == 0 {
		return nil, fmt.Errorf("payload file %s has no line", name)
	}
	p := &Payloads{lines: bytes.Split(data, []byte{'\n'})}
	for _, line := range p.lines {
		if len(line) > maxPayloadBytes {
			return nil, fmt.Errorf("payload file %s has a line of %d bytes; at most %d", name, len(line), maxPayloadBytes)
		}
	}
	p.text = fmt.Sprintf("%d lines of %s, %.0f bytes on average", len(p.lines), filepath.Base(name), p.MeanBytes())
	return p, nil
}

// At is the value of record i. It must not be changed.
func (p *Payloads) At(i uint64) []byte {
	if p.lines != nil {
		return p.lines[i%uint64(len(p.lines))]
	}
	// An odd stride visits every window start before it repeats one.
	from := (i * 1_000_003) % randomBlock
	return p.block[from : from+uint64(p.size)]
}

// MeanBytes is the average size of a value.
func (p *Payloads) MeanBytes() float64 {
	if p.lines == nil {
		return float64(p.size)
	}
	total := 0
	for _, line := range p.lines {
		total += len(line)
	}
	return float64(total) / float64(len(p.lines))
}

// String describes the payloads for reports.
func (p *Payloads) String() string { return p.text }

// stamped writes the value of record i into buf, headed by the intended time of sending (since the start of the
// measurement, so that no step of the wall clock can spoil it): in place of the first bytes of a random value, before a
// real line.
func (p *Payloads) stamped(buf []byte, i uint64, intended time.Duration) []byte {
	value := p.At(i)
	if p.lines == nil {
		value = value[min(stampBytes, len(value)):]
	}
	buf = binary.LittleEndian.AppendUint64(buf[:0], uint64(intended))
	return append(buf, value...)
}

// stampOf reads what stamped wrote.
func stampOf(value []byte) (time.Duration, bool) {
	if len(value) < stampBytes {
		return 0, false
	}
	return time.Duration(binary.LittleEndian.Uint64(value)), true
}
