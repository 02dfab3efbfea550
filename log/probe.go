package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// DiskProbe is what a disk does when written in the journal's way: the physical limit that figures are held against.
type DiskProbe struct {
	Mode           string  // as Stats.JournalMode
	Flush          Latency // of one block of 4 KiB, one at a time
	BytesPerSecond float64 // with 1 MiB per flush
}

// ProbeDisk measures the disk under dir, in a temporary file of 16 MiB that is removed again. flushes of 4 KiB are
// timed (0 = 1,000). It writes about 4 KiB per flush and 128 MiB besides.
func ProbeDisk(dir string, flushes int) (p DiskProbe, err error) {
	const size = 16 << 20
	o := Options{}.withDefaults()
	j := newJournal(dir, o, [16]byte{})
	j.dir = filepath.Join(dir, "probe.tmp")
	if err := j.fs.MkdirAll(j.dir); err != nil {
		return p, fmt.Errorf("probe disk: %w", err)
	}
	defer func() { err = errors.Join(err, j.fs.RemoveAll(j.dir)) }()
	jf, err := j.createFile(size)
	if err != nil {
		return p, fmt.Errorf("probe disk: %w", err)
	}
	defer func() { err = errors.Join(err, jf.f.Close()) }()
	if err := j.chooseMode(jf); err != nil {
		return p, err
	}
	p.Mode = j.mode()
	write := func(b []byte, at int64) error {
		_, err := jf.f.WriteAt(b, at)
		if err == nil && !jf.direct {
			err = jf.f.Sync()
		}
		return err
	}
	if flushes <= 0 {
		flushes = 1000
	}
	var h Histogram
	block := vfs.AlignedBuffer(journalBlock)
	for i := range int64(flushes) {
		start := time.Now()
		if err := write(block, i*journalBlock%size); err != nil {
			return p, fmt.Errorf("probe disk: %w", err)
		}
		h.Add(time.Since(start))
	}
	p.Flush = h.Read()
	large := vfs.AlignedBuffer(1 << 20)
	start := time.Now()
	const writes = 128
	for i := range int64(writes) {
		if err := write(large, i<<20%size); err != nil {
			return p, fmt.Errorf("probe disk: %w", err)
		}
	}
	p.BytesPerSecond = writes * (1 << 20) / time.Since(start).Seconds()
	return p, nil
}
