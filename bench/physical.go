package bench

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"
)

const (
	flushSmall      = 4 << 10
	flushLarge      = 64 << 10
	bandwidthGroup  = 1 << 20
	probeFileBytes  = 64 << 20
	probeFiles      = 4
	memoryBlock     = 64 << 20
	segmentLookback = 8 << 20 // segment bytes whose write-back is started at once
)

// Physical holds the limits of the machine that durable messaging runs into, measured by plain system calls.
type Physical struct {
	// FlushKind is how the probe file is written: "direct+dsync" (O_DIRECT|O_DSYNC) or "fdatasync".
	FlushKind string `json:"flushKind"`
	// Flush4K and Flush64K are single writes made durable on a recycled file (every block written before).
	Flush4K  *Latency `json:"flush4KiB"`
	Flush64K *Latency `json:"flush64KiB"`
	// RoundTrip is a TCP round trip of 128 bytes on the loopback interface; RoundTripPeer says where the other end is:
	// in "another process", as a broker is, or in "this process", which is some microseconds quicker.
	RoundTrip     *Latency `json:"loopbackRoundTrip"`
	RoundTripPeer string   `json:"loopbackPeer,omitempty"`
	// JournalMBs is sustained writing of 1 MiB groups to recycled files, each group durable before the next.
	JournalMBs float64 `json:"journalMBs"`
	// JournalSegmentsMBs is the same while every byte also goes to a growing file with early write-back.
	JournalSegmentsMBs float64 `json:"journalWithSegmentsMBs"`
	MemcpyGBs          float64 `json:"memcpyGBs"`
	CRC32CGBs          float64 `json:"crc32cGBs"`
}

// FloorUs is what one durable record costs at least: one flush and one round trip, medians, in microseconds.
func (p *Physical) FloorUs() float64 { return p.Flush4K.P50Us + p.RoundTrip.P50Us }

// MeasurePhysical measures the limits with files in dir, about budget long in total. It removes what it wrote. The other
// end of the round trip is the process that echo starts (see [ServeEcho]), or this one if echo is nil.
func MeasurePhysical(ctx context.Context, dir string, budget time.Duration, echo *Launcher) (*Physical, error) {
	work, err := os.MkdirTemp(dir, "bench-physical-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the physical probe: %w", err)
	}
	defer os.RemoveAll(work)
	part := budget / 8
	p := &Physical{}
	if err := p.measureFlush(ctx, work, part); err != nil {
		return nil, err
	}
	if err := p.measureRoundTrip(ctx, part, echo); err != nil {
		return nil, err
	}
	if err := p.measureBandwidth(ctx, work, 4*part); err != nil {
		return nil, err
	}
	p.MemcpyGBs, p.CRC32CGBs = memoryBandwidth(part / 2)
	return p, nil
}

// MeasureFloor measures only a small flush and a round trip: the limit of one outstanding produce.
func MeasureFloor(ctx context.Context, dir string, budget time.Duration, echo *Launcher) (*Physical, error) {
	work, err := os.MkdirTemp(dir, "bench-floor-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the physical probe: %w", err)
	}
	defer os.RemoveAll(work)
	p := &Physical{}
	if err := p.measureFlush(ctx, work, budget/2); err != nil {
		return nil, err
	}
	return p, p.measureRoundTrip(ctx, budget/2, echo)
}

// MeasureBandwidth measures only sustained writing, without and with segments.
func MeasureBandwidth(ctx context.Context, dir string, budget time.Duration) (*Physical, error) {
	work, err := os.MkdirTemp(dir, "bench-bandwidth-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the physical probe: %w", err)
	}
	defer os.RemoveAll(work)
	p := &Physical{}
	return p, p.measureBandwidth(ctx, work, budget)
}

func (p *Physical) measureBandwidth(ctx context.Context, work string, budget time.Duration) (err error) {
	if p.JournalMBs, err = journalBandwidth(ctx, work, budget/2, nil); err != nil {
		return err
	}
	segment, err := os.Create(filepath.Join(work, "segment"))
	if err != nil {
		return fmt.Errorf("create probe segment: %w", err)
	}
	defer segment.Close()
	p.JournalSegmentsMBs, err = journalBandwidth(ctx, work, budget/2, segment)
	return err
}

func (p *Physical) measureFlush(ctx context.Context, dir string, budget time.Duration) error {
	f, err := recycledFile(filepath.Join(dir, "journal"))
	if err != nil {
		return err
	}
	defer f.Close()
	p.FlushKind = f.kind
	if p.Flush4K, err = flushLatency(ctx, f, flushSmall, budget/2); err != nil {
		return err
	}
	p.Flush64K, err = flushLatency(ctx, f, flushLarge, budget/2)
	return err
}

// flushLatency writes size bytes durably, over and over, one after the other.
func flushLatency(ctx context.Context, f *probeFile, size int, budget time.Duration) (*Latency, error) {
	h := NewHistogram()
	if err := flushInto(ctx, h, f, size, budget); err != nil {
		return nil, err
	}
	return summaryOf(ctx, h)
}

func flushInto(ctx context.Context, h *Histogram, f *probeFile, size int, budget time.Duration) error {
	buf := alignedBuffer(size)
	var off int64
	for end := time.Now().Add(budget); time.Now().Before(end) && ctx.Err() == nil; {
		start := time.Now()
		if err := f.writeDurably(buf, off); err != nil {
			return err
		}
		h.Record(time.Since(start))
		if off += int64(size); off+int64(size) > probeFileBytes {
			off = 0
		}
	}
	return nil
}

// MeasureSharedFlush is the time of one durable write of 4 KiB while n files on the disk are written so, as by the journals
// of n brokers that share it.
func MeasureSharedFlush(ctx context.Context, dir string, n int, budget time.Duration) (l *Latency, err error) {
	work, err := os.MkdirTemp(dir, "bench-flush-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the physical probe: %w", err)
	}
	defer os.RemoveAll(work)
	var files []*probeFile
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for i := range n {
		f, err := recycledFile(filepath.Join(work, fmt.Sprintf("journal-%d", i)))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	h, done := NewHistogram(), make(chan error, n)
	for _, f := range files {
		go func() { done <- flushInto(ctx, h, f, flushSmall, budget) }()
	}
	var errs []error
	for range files {
		errs = append(errs, <-done)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return summaryOf(ctx, h)
}

func summaryOf(ctx context.Context, h *Histogram) (*Latency, error) {
	if s := h.Summary(); s != nil {
		s.Curve = nil
		return s, nil
	}
	return nil, errors.Join(errors.New("nothing was measured: give more time"), ctx.Err())
}

// journalBandwidth writes durable groups over recycled files for budget and returns MB/s of payload. With a segment,
// every group is also appended to it and its write-back started, as a broker with separate segments must.
func journalBandwidth(ctx context.Context, dir string, budget time.Duration, segment *os.File) (float64, error) {
	var files []*probeFile
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for i := range probeFiles {
		f, err := recycledFile(filepath.Join(dir, fmt.Sprintf("journal-%d", i)))
		if err != nil {
			return 0, err
		}
		files = append(files, f)
	}
	buf := alignedBuffer(bandwidthGroup)
	var written, off int64
	start := time.Now()
	for time.Since(start) < budget && ctx.Err() == nil {
		if segment != nil {
			if err := appendSegment(segment, buf, written); err != nil {
				return 0, err
			}
		}
		f := files[(written/probeFileBytes)%probeFiles]
		if err := f.writeDurably(buf, off); err != nil {
			return 0, err
		}
		written += bandwidthGroup
		off = (off + bandwidthGroup) % probeFileBytes
	}
	if segment != nil {
		if err := segment.Sync(); err != nil {
			return 0, fmt.Errorf("sync probe segment: %w", err)
		}
	}
	return float64(written) / 1e6 / time.Since(start).Seconds(), ctx.Err()
}

func appendSegment(segment *os.File, buf []byte, off int64) error {
	if _, err := segment.WriteAt(buf, off); err != nil {
		return fmt.Errorf("write probe segment: %w", err)
	}
	if end := off + int64(len(buf)); end%segmentLookback == 0 {
		startWriteback(segment, end-segmentLookback, segmentLookback)
	}
	return nil
}

// memoryBandwidth copies and checksums blocks larger than the processor's caches, each for budget; GB/s.
func memoryBandwidth(budget time.Duration) (memcpy, crc float64) {
	from, to := make([]byte, memoryBlock), make([]byte, memoryBlock)
	copy(to, from) // touch the pages first
	memcpy = gigabytes(budget, func() { copy(to, from) })
	table := crc32.MakeTable(crc32.Castagnoli)
	crc = gigabytes(budget, func() { crc32.Checksum(to, table) })
	return memcpy, crc
}

func gigabytes(budget time.Duration, step func()) float64 {
	start, n := time.Now(), 0
	for n == 0 || time.Since(start) < budget {
		step()
		n++
	}
	return float64(n) * memoryBlock / 1e9 / time.Since(start).Seconds()
}

// probeFile is a file every block of which has been written before: writing it again changes no metadata.
type probeFile struct {
	*os.File
	kind string
	sync bool // needs a sync after the write
}

// recycledFile creates a probe file, writes all its blocks once and opens it the way the broker's journal would be.
func recycledFile(name string) (*probeFile, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create probe file: %w", err)
	}
	zeros := make([]byte, bandwidthGroup)
	for off := int64(0); off < probeFileBytes && err == nil; off += bandwidthGroup {
		_, err = f.WriteAt(zeros, off)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("fill probe file: %w", err)
	}
	return openProbe(name)
}

func (f *probeFile) writeDurably(buf []byte, off int64) error {
	if _, err := f.WriteAt(buf, off); err != nil {
		return fmt.Errorf("write probe file (%s): %w", f.kind, err)
	}
	if f.sync {
		if err := syncData(f.File); err != nil {
			return fmt.Errorf("sync probe file: %w", err)
		}
	}
	return nil
}
