package log

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/record"
)

// ID names a partition: the topic's UUID and the partition's number within it.
type ID struct {
	Topic     [16]byte
	Partition uint32
}

// String returns "<topic UUID in hex>/<partition>", which is also the partition's directory below partitions/.
func (id ID) String() string {
	return hex.EncodeToString(id.Topic[:]) + "/" + strconv.FormatUint(uint64(id.Partition), 10)
}

// FsyncMode says when an append counts as done.
type FsyncMode uint8

const (
	// FsyncAlways completes an append once it is in the synced journal.
	FsyncAlways FsyncMode = iota
	// FsyncInterval completes it at once and syncs the segment each Config.FsyncInterval: the loss window after a
	// power failure. A killed process loses nothing.
	FsyncInterval
	// FsyncNever completes it at once and leaves syncing to checkpoints and the kernel.
	FsyncNever
)

// String returns the mode's name as used in topic configurations.
func (m FsyncMode) String() string {
	switch m {
	case FsyncAlways:
		return "always"
	case FsyncInterval:
		return "interval"
	case FsyncNever:
		return "never"
	}
	return fmt.Sprintf("FsyncMode(%d)", uint8(m))
}

// Config is the configuration of one partition. The zero value is: fsync always, kept for ever, deleted not compacted.
type Config struct {
	Fsync              FsyncMode
	FsyncInterval      time.Duration // of FsyncInterval; default 1 s
	RetentionTime      time.Duration // by append time, whole segments; 0 = for ever
	RetentionBytes     int64         // whole segments; 0 = unlimited
	Compact            bool          // keep the last record per key instead of deleting by age and size
	TombstoneRetention time.Duration // how long a compacted topic keeps tombstones
	SegmentBytes       int64         // size at which a segment is rolled; default 128 MiB
	Essential          bool          // appends go on below the disk reserve: for the broker's own metadata
}

const (
	defaultSegmentBytes  = 128 << 20
	minSegmentBytes      = 4 << 10
	maxSegmentBytes      = 1 << 31 // index positions are 32 bit
	defaultFsyncInterval = time.Second
)

func (c Config) withDefaults() Config {
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	c.SegmentBytes = min(max(c.SegmentBytes, minSegmentBytes), maxSegmentBytes)
	if c.FsyncInterval <= 0 {
		c.FsyncInterval = defaultFsyncInterval
	}
	return c
}

// Spec is a partition to be created.
type Spec struct {
	ID     ID
	Config Config
}

// Options configure a Store. Zero fields take the defaults named here.
type Options struct {
	FS      vfs.FS           // default: the operating system's
	Now     func() time.Time // default time.Now; drives retention and nothing else
	Logger  *slog.Logger     // default: discard
	OnFatal func(error)      // called once, on its own goroutine, at the first failed write or sync; must not call Close

	JournalFileBytes int64 // size of a journal file; default 64 MiB. One made at a start is at most 8 MiB.
	JournalMaxBytes  int64 // most bytes of journal that recovery may have to read; default 256 MiB. Checkpoints start at a quarter.
	JournalBuffered  bool  // do not try direct writes

	TailBytes    int64 // shared memory tail that serves caught-up readers; default 48 MiB; negative: none
	MaxOpenFiles int   // segment files kept open; default 12,000, less if the process may open fewer
	IndexBytes   int64 // indexes of sealed segments kept in memory; default 16 MiB

	ReserveBytes int64 // appends are refused while less than this is free on the disk; default 256 MiB; negative: none
	BallastBytes int64 // file given up to write a checkpoint on a full disk; default 16 MiB; negative: none

	CheckpointInterval time.Duration // longest time a change waits for a checkpoint; default 1 min
	RetentionInterval  time.Duration // default 30 s
	ScrubInterval      time.Duration // default 24 h for a whole round; negative: none
	CompactInterval    time.Duration // pause between compaction rounds; default 30 s; negative: none

	ScrubRate   int64 // bytes/s; default: what takes half a ScrubInterval for all there is, within 1 to 64 MiB/s
	CompactRate int64 // bytes/s read and written by compaction; default 100 MiB/s; negative: unlimited

	Limits record.Limits // of what Append accepts; default record.DefaultLimits

	switches *switches // for tests
}

const (
	defaultJournalFileBytes = 64 << 20
	defaultJournalMaxBytes  = 256 << 20
	firstJournalFileBytes   = 8 << 20
	minJournalFileBytes     = 64 << 10
)

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.switches == nil {
		o.switches = &switches{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnFatal == nil {
		o.OnFatal = func(error) {}
	}
	if o.Limits == (record.Limits{}) {
		o.Limits = record.DefaultLimits()
	}
	o.JournalFileBytes = orDefault(o.JournalFileBytes, defaultJournalFileBytes)
	o.JournalFileBytes = max(o.JournalFileBytes/journalBlock*journalBlock, minJournalFileBytes)
	o.JournalMaxBytes = max(orDefault(o.JournalMaxBytes, defaultJournalMaxBytes), 3*o.JournalFileBytes)
	o.TailBytes = orDefault(o.TailBytes, 48<<20)
	o.IndexBytes = orDefault(o.IndexBytes, 16<<20)
	o.ReserveBytes = orDefault(o.ReserveBytes, 256<<20)
	o.BallastBytes = orDefault(o.BallastBytes, 16<<20)
	o.CheckpointInterval = orDefault(o.CheckpointInterval, time.Minute)
	o.RetentionInterval = orDefault(o.RetentionInterval, 30*time.Second)
	o.ScrubInterval = orDefault(o.ScrubInterval, 24*time.Hour)
	o.CompactInterval = orDefault(o.CompactInterval, 30*time.Second)
	o.CompactRate = orDefault(o.CompactRate, 100<<20)
	if o.MaxOpenFiles <= 0 {
		o.MaxOpenFiles = openFilesDefault(12000)
	}
	return o
}

func orDefault[T int64 | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return max(v, 0)
}
