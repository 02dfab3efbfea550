package log

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/sequitur-mq/sequitur/record"
)

// Key compaction, for partitions with Config.Compact.
//
// What stays: for every key the last record below the compaction limit; all records without a key; control and
// transactional batches as they are; a tombstone (a key without a value) at least TombstoneRetention beyond both its
// append time and the round that first removed everything older of its key, so that a reader who saw an older record sees the
// tombstone as well. Offsets never change. A batch that lost all its records stays as a bare header while it is its
// producer's last one (sequence numbers must outlive the records) or the last of its file (so that files adjoin).
//
// How: a round builds a map of keys to newest offsets from what was appended since the last round, in a fixed amount
// of memory. When the map is full the round does what it can with it and goes on with an empty one. A record is removed if the
// map knows a later one of its key, which is right whatever the map misses. Sealed segments, neighbours together
// while they fit one file, are rewritten to a new file of the partition's next generation, which is synced and then put in their place by one
// journal entry: after a crash the log consists of the old files or of the new one, and the other ones are strays that
// recovery removes. Readers on old files finish with them. The active segment is never touched, nor is a segment with
// damage: what cannot be read must not be lost by rewriting around it.

const (
	// valueCompaction is the key of Partition values under which compaction remembers its tombstone horizon.
	valueCompaction = 255

	compactKeyBytes  = 16 << 20 // memory of the key map
	compactProducers = 1 << 16  // producers whose last batch is known; others' bare headers all stay
	compactBuffer    = 1 << 20  // writes
)

// compactStats are read by Stats.
type compactStats struct {
	rounds, replaced, removed, reclaimed, read, failed atomic.Uint64
}

// CompactStats describe the work of compaction since Open.
type CompactStats struct {
	Rounds    uint64 // of one partition each, that had something to do
	Segments  uint64 // rewritten
	Records   uint64 // removed
	Bytes     uint64 // freed
	ReadBytes uint64
	Failed    uint64 // rounds given up: the log changed meanwhile, or no disk space
}

func (c *compactStats) stats() CompactStats {
	return CompactStats{Rounds: c.rounds.Load(), Segments: c.replaced.Load(), Records: c.removed.Load(),
		Bytes: c.reclaimed.Load(), ReadBytes: c.read.Load(), Failed: c.failed.Load()}
}

// compactState is what a partition remembers between rounds; nil until the first one.
type compactState struct {
	clean   int64   // below it every key occurs once
	horizon horizon // of tombstones
	pending bool    // there are tombstones to be removed once the horizon is old enough
	limit   func() int64
}

// horizon says that at a time everything superseded below an offset was gone.
type horizon struct{ offset, time int64 }

func (h horizon) encode() []byte { return appendI64(appendI64(nil, h.offset), h.time) }

func decodeHorizon(b []byte) (h horizon) {
	d := decoder{b: b}
	h.offset, h.time = d.i64(), d.i64()
	if d.end() != nil {
		return horizon{}
	}
	return h
}

// compactState returns what compaction remembers of the partition. The caller holds mu.
func (p *Partition) compactState() *compactState {
	if p.compact == nil {
		p.compact = &compactState{}
		for _, v := range p.values {
			if v.key == valueCompaction {
				p.compact.horizon = decodeHorizon(v.data)
			}
		}
		if p.compact.horizon.offset > p.end {
			p.compact.horizon = horizon{} // of a suffix that was truncated
		}
	}
	return p.compact
}

// truncated forgets what was known of a suffix. The caller holds the partition's mu.
func (c *compactState) truncated(end int64) {
	c.clean = min(c.clean, end)
	if c.horizon.offset > end {
		c.horizon = horizon{}
	}
}

// SetCompactionLimit registers the owner's bound: compaction leaves alone what lies at or above the offset that fn
// returns, such as a high watermark. Without it the bound is Durable. fn is called with no lock of the log held.
func (p *Partition) SetCompactionLimit(fn func() int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.compactState().limit = fn
}

// Compact runs a round of compaction on every compacted partition that has enough to gain, or on all of them if force
// is set. The background loop does so each Options.CompactInterval.
func (s *Store) Compact(force bool) error {
	var errs error
	for _, p := range s.all() {
		if s.Err() != nil || s.stopping() {
			break
		}
		if err := p.compactRound(force); err != nil {
			s.counters.compact.failed.Add(1)
			errs = errors.Join(errs, fmt.Errorf("compact partition %s: %w", p.id, err))
		}
	}
	return errs
}

// compaction is a round on one partition.
type compaction struct {
	p        *Partition
	s        *Store
	config   Config
	now      int64
	limit    int64
	from     int64      // everything below is clean
	dirty    int64      // bytes of segments above
	segments []*segment // sealed and below the limit, ascending
	ends     []int64    // offsets after them
	skipped  int64      // offset of the first segment that was left alone because of damage
	keys     *keyMap
	last     map[uint64]int64 // producer -> base offset of its last batch
	dropping horizon          // tombstones below go if they are old enough
	throttle throttle

	reader  record.Reader
	inflate *record.Decompressor
	rewrite record.Rewriter
	surveys map[*segment]survey // of the present pass
	kept    bool                // a tombstone stays that a later round may remove
}

var errCompactionStopped = errors.New("stopped")

// compactRound brings a partition's sealed segments up to date.
func (p *Partition) compactRound(force bool) error {
	c := p.beginCompaction(force)
	if c == nil {
		return nil
	}
	c.inflate = record.NewDecompressor()
	defer c.inflate.Close()
	c.keys = newKeyMap(c.keyBytes())
	p.s.counters.compact.rounds.Add(1)
	// What supersedes a record must not be lost after it: an unjournaled partition's segments are not durable by now.
	if err := p.s.syncSegments(c.unsynced()); err != nil {
		return err
	}
	if err := c.lastBatches(); err != nil {
		return c.outcome(err)
	}
	for at := c.from; ; {
		upto, err := c.gather(at)
		if err != nil {
			return c.outcome(err)
		}
		if err := c.clean(upto); err != nil {
			return c.outcome(err)
		}
		if c.done(upto); upto >= c.limit {
			break
		}
		at = upto
		c.keys.clear()
	}
	return c.advanceHorizon()
}

// keyBytes is the memory of the key map: no more than there can be keys. What is too little costs another pass.
func (c *compaction) keyBytes() int64 {
	if n := c.s.options.switches.keyBytes; n > 0 {
		return n
	}
	return min(compactKeyBytes, max(2*c.dirty, 4<<10))
}

// unsynced lists what is not durable of the segments, and of the directories that lead to them.
func (c *compaction) unsynced() []syncItem {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	var list []syncItem
	for _, g := range c.segments {
		if g.synced < g.size || !g.namesSaved {
			list = append(list, syncItem{g, g.size})
		}
	}
	return list
}

// outcome sorts out failures: a log that changed meanwhile, a full disk or the end of the process mean another time.
func (c *compaction) outcome(err error) error {
	switch {
	case errors.Is(err, errCompactionStopped), errors.Is(err, ErrUnknownPartition), errors.Is(err, errSegmentGone), errors.Is(err, errChanged):
		c.s.counters.compact.failed.Add(1)
		return nil
	}
	return err
}

// beginCompaction decides whether there is enough to do.
func (p *Partition) beginCompaction(force bool) *compaction {
	limit := p.Durable()
	p.mu.Lock()
	if !p.config.Compact || p.deleted || len(p.segments) < 2 || len(p.strays) > 0 {
		p.mu.Unlock()
		return nil
	}
	bound := p.compactState().limit
	p.mu.Unlock()
	if bound != nil {
		limit = min(limit, bound())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &compaction{p: p, s: p.s, config: p.config, now: p.s.options.Now().UnixNano(), from: p.compact.clean, skipped: maxOffset, throttle: p.s.newThrottle(p.s.options.CompactRate)}
	var total int64
	for i, g := range p.segments[:max(len(p.segments)-1, 0)] {
		end := p.segments[i+1].base
		if end > limit {
			break
		}
		c.segments, c.ends, c.limit = append(c.segments, g), append(c.ends, end), end
		if total += g.size; end > c.from {
			c.dirty += g.size
		}
	}
	h := p.compact.horizon
	due := h.offset > 0 && c.now-h.time >= int64(c.config.TombstoneRetention)
	if due {
		c.dropping = h
	}
	if len(c.segments) == 0 || !force && c.dirty*2 < total-c.dirty && !(due && p.compact.pending) || c.dirty == 0 && !due {
		return nil
	}
	if p.s.reserve.full.Load() {
		return nil // rewriting needs room first
	}
	return c
}

// keeps decides about one record.
func (c *compaction) keeps(b record.Batch, rec *record.Record) bool {
	if rec.Key == nil {
		return true
	}
	offset := b.BaseOffset() + rec.OffsetDelta
	if newest, ok := c.keys.newest(rec.Key); ok && newest > offset {
		return false
	}
	if rec.Value != nil {
		return true
	}
	old := b.AppendTime()+int64(c.config.TombstoneRetention) <= c.now
	if old && offset < c.dropping.offset && offset < c.skipped {
		return false
	}
	c.kept = true
	return true
}

// done notes how far the partition is clean.
func (c *compaction) done(upto int64) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.compact.clean = max(c.p.compact.clean, upto)
}

// advanceHorizon remembers, durably, below which offset nothing superseded is left, once the horizon before has done
// its duty.
func (c *compaction) advanceHorizon() error {
	p := c.p
	p.mu.Lock()
	p.compact.pending = c.kept
	h := p.compact.horizon
	next := horizon{min(c.limit, c.skipped), c.now}
	if h.offset > 0 && c.dropping.offset == 0 || !c.kept || next.offset == 0 {
		p.mu.Unlock()
		return nil
	}
	p.compact.horizon = next
	p.mu.Unlock()
	return p.PutValue(valueCompaction, next.encode(), nil)
}

// clean rewrites the segments that hold something removable, and joins neighbours that fit one file.
func (c *compaction) clean(upto int64) error {
	c.surveys = map[*segment]survey{}
	for i := 0; i < len(c.segments) && c.segments[i].base < upto; {
		run, err := c.run(i, upto)
		if err != nil {
			return err
		}
		if len(run) == 0 {
			i++
			continue
		}
		with, err := c.rewriteRun(i, len(run))
		if err != nil {
			return err
		}
		c.segments = slices.Replace(c.segments, i, i+len(run), with)
		c.ends = slices.Delete(c.ends, i, i+len(run)-1)
		i++
	}
	return nil
}

// survey is what a look at a segment found out.
type survey struct {
	live    int64 // bytes that would stay, about
	dirty   bool  // something would go
	damaged bool
}

// run returns the segments from i on to be rewritten together; none if the first one may stay as it is. A segment
// that nothing would go from is rewritten only to be joined with others, if it is small.
func (c *compaction) run(i int, upto int64) ([]*segment, error) {
	var size int64
	dirty := false
	n := i
	for ; n < len(c.segments) && c.segments[n].base < upto; n++ {
		v, err := c.survey(c.segments[n], c.ends[n])
		if err != nil {
			return nil, err
		}
		if v.damaged || !v.dirty && v.live > c.config.SegmentBytes/2 {
			break
		}
		if n > i && (size+v.live > c.config.SegmentBytes || c.ends[n]-c.segments[i].base > maxSegmentOffsets) {
			break
		}
		dirty = dirty || v.dirty
		size += v.live
	}
	if n == i || n == i+1 && !dirty {
		return nil, nil
	}
	return c.segments[i:n], nil
}

// survey looks at all of a segment, so that damage is found before anything is rewritten, once in a pass.
func (c *compaction) survey(g *segment, end int64) (survey, error) {
	if v, ok := c.surveys[g]; ok {
		return v, nil
	}
	var v survey
	err := c.batches(g, false, 0, func(b record.Batch) error {
		live, err := c.liveBytes(b, end)
		v.dirty = v.dirty || live < int64(len(b))
		v.live += live
		return err
	})
	var bad *badBatch
	if errors.As(err, &bad) || isNotExist(err) {
		c.skipped = min(c.skipped, g.base)
		v, err = survey{damaged: true}, nil
	}
	if err == nil {
		c.surveys[g] = v
	}
	return v, err
}

// liveBytes is about how much of a batch stays.
func (c *compaction) liveBytes(b record.Batch, end int64) (int64, error) {
	whole := int64(len(b))
	if b.Count() == 0 && !b.Attributes().Control() && !c.keepsHeader(b, end) {
		return 0, nil
	}
	if !mayCompact(b) {
		return whole, nil
	}
	if err := c.reader.Reset(b, c.inflate, storedLimits()); err != nil {
		return 0, &badBatch{0, err}
	}
	var rec record.Record
	for kept := int64(0); ; {
		ok, err := c.reader.Next(&rec)
		switch {
		case err != nil:
			return 0, &badBatch{0, err}
		case ok && c.keeps(b, &rec):
			kept++
		case ok:
		case kept == 0 && !c.keepsHeader(b, end):
			return 0, nil
		default:
			return record.HeaderSize + (whole-record.HeaderSize)*kept/int64(b.Count()), nil
		}
	}
}

// keepsHeader decides about a batch without records. end is the offset after its segment.
func (c *compaction) keepsHeader(b record.Batch, end int64) bool {
	if b.NextOffset() >= end {
		return true
	}
	id := b.ProducerID()
	if id == 0 {
		return false
	}
	last, known := c.last[id]
	return !known || last == b.BaseOffset()
}

// errChanged says that the partition's segments are no longer those the round began with.
var errChanged = errors.New("the log changed meanwhile")
