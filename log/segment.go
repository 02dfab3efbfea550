package log

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

const (
	segmentSuffix = ".log"
	indexSuffix   = ".idx"

	// Offsets in an index are relative and 32 bit; an append may go somewhat beyond this.
	maxSegmentOffsets = 1 << 31
)

// segmentName identifies a segment within its partition. The generation tells files apart that begin at the same
// offset: it grows with each truncation and rewrite of the partition, so that a new file never takes the name of one
// whose removal is not durable yet.
type segmentName struct {
	base       int64
	generation uint32
}

// stem is the file name without suffix: the base offset in 20 digits, then "-" and the generation unless that is 0.
func (n segmentName) stem() string {
	s := fmt.Sprintf("%020d", n.base)
	if n.generation != 0 {
		s += "-" + strconv.FormatUint(uint64(n.generation), 10)
	}
	return s
}

// parseSegmentName reads the name of a .log or .idx file.
func parseSegmentName(file string) (n segmentName, suffix string, ok bool) {
	suffix = filepath.Ext(file)
	if suffix != segmentSuffix && suffix != indexSuffix {
		return n, "", false
	}
	base, generation, rewritten := strings.Cut(strings.TrimSuffix(file, suffix), "-")
	if len(base) != 20 {
		return n, "", false
	}
	b, err := strconv.ParseUint(base, 10, 63)
	if err != nil {
		return n, "", false
	}
	if rewritten {
		g, err := strconv.ParseUint(generation, 10, 32)
		if err != nil || g == 0 {
			return n, "", false
		}
		n.generation = uint32(g)
	}
	n.base = int64(b)
	return n, suffix, true
}

// segmentState is what the checkpoint knows of a segment.
type segmentState struct {
	segmentName
	size     int64
	lastTime int64 // append time of its last batch
}

const segmentStateSize = 28

func appendSegmentState(b []byte, s segmentState) []byte {
	b = appendU32(appendI64(b, s.base), s.generation)
	return appendI64(appendI64(b, s.size), s.lastTime)
}

func (d *decoder) segmentState() (s segmentState) {
	s.base, s.generation = d.i64(), d.u32()
	s.size, s.lastTime = d.i64(), d.i64()
	if d.err == nil && (s.base < 0 || s.size < 0) {
		d.err = errors.New("negative segment base or size")
	}
	return s
}

// segment is one file of a partition. Its fields are guarded by the partition's mu unless said otherwise; only the
// last segment of a partition grows.
type segment struct {
	p *Partition
	segmentState
	synced     int64  // bytes known to be durable
	namesSaved bool   // the directory entries leading here are durable
	writeback  int64  // bytes whose write-back was started; guarded by the partition's write
	found      int64  // bytes that were there when the store was opened: not trusted until verified
	verified   span   // what of them has been verified
	index      *index // nil until needed
	indexSaved int64  // size at which the active segment's index was saved last
	handle     atomic.Pointer[handle]
	gone       atomic.Bool             // removed: not to be opened again
	successor  atomic.Pointer[segment] // has the file now: set before gone where that stays
}

// span is the range [from, to).
type span struct{ from, to int64 }

func (s span) contains(from, to int64) bool { return from >= s.from && to <= s.to }

// add extends the span by a range that touches it, else takes the range in its place.
func (s *span) add(from, to int64) {
	if from > s.to || to < s.from {
		*s = span{from, to}
		return
	}
	s.from, s.to = min(s.from, from), max(s.to, to)
}

func (g *segment) path() string { return filepath.Join(g.p.dir(), g.stem()+segmentSuffix) }

func (g *segment) indexPath() string { return filepath.Join(g.p.dir(), g.stem()+indexSuffix) }

// dir is the partition's directory.
func (p *Partition) dir() string {
	return filepath.Join(p.s.dir, "partitions", filepath.FromSlash(p.id.String()))
}

// active is the segment that grows, nil before the first append. The caller holds write or mu.
func (p *Partition) active() *segment {
	if len(p.segments) == 0 {
		return nil
	}
	return p.segments[len(p.segments)-1]
}

// writable returns the segment that an append of n bytes goes to, rolling to a new one where the active one is full.
// The caller holds write.
func (p *Partition) writable(n int) (*segment, *handle, error) {
	g := p.active()
	fits := g != nil && g.size+int64(n) <= p.config.SegmentBytes && p.end-g.base < maxSegmentOffsets
	if g != nil && g.size == 0 {
		fits = g.generation == p.generation // else recovery would look for another name
	}
	if fits && !p.sealed {
		h, err := p.s.files.acquire(g)
		if isNotExist(err) && !p.s.recovering {
			p.s.log.Error("segment file is missing; its offsets cannot be read, appends go on in a new one", "partition", p.id, "file", g.path())
			return p.roll()
		}
		return g, h, err
	}
	return p.roll()
}

// roll begins a new segment at the end of the log. The caller holds write.
func (p *Partition) roll() (*segment, *handle, error) {
	sealed := p.active()
	p.mu.Lock()
	g := &segment{p: p, segmentState: segmentState{segmentName: segmentName{p.end, p.generation}, lastTime: p.lastTime}}
	g.index = newIndex(0)
	p.mu.Unlock()
	h, err := p.s.files.create(g, p.s.recovering)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	n := len(p.segments)
	if sealed != nil && sealed.size == 0 { // the first write to it failed, on a full disk
		n--
	}
	p.segments = append(p.segments[:n:n], g)
	p.sealed = false
	p.mu.Unlock()
	if sealed != nil && sealed.size == 0 {
		p.s.checkpoints.removeLater(chore{kind: choreRemoveSegment, segment: sealed})
	} else if sealed != nil {
		p.s.chores.add(chore{kind: choreSeal, segment: sealed})
	}
	return g, h, nil
}

// state copies what the checkpoint keeps. The caller holds the partition's lock.
func (p *Partition) segmentStates() []segmentState {
	states := make([]segmentState, len(p.segments))
	for i, g := range p.segments {
		states[i] = g.segmentState
	}
	return states
}
