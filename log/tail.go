package log

import "sync"

const (
	slabSize      = 1 << 20
	tailMaxAppend = 8 << 10 // larger appends are served better from the page cache by sendfile
	tailInLock    = 4 << 10 // copies up to this size are made under the lock
)

// tail is the memory that serves caught-up readers: the last appends of all partitions, as copies in a ring of slabs
// shared by the whole store. A slab is made when it is first needed and reused when no reader holds it, so a slow
// reader delays the reuse of one slab and takes nothing from anyone else.
type tail struct {
	mu    sync.Mutex
	max   int     // slabs in the ring
	ring  []*slab // oldest first; the last one is being filled
	spare []*slab
	bytes int64 // in all slabs made, also those that left the ring and are still held
}

type slab struct {
	buf  []byte
	used int
	life uint64 // counts its uses; a reference of an earlier one is stale
	pins int    // appends that are copying, chunks that are reading
	out  bool   // left the ring
}

// tailRef is a stretch of a slab. The zero value refers to nothing.
type tailRef struct {
	slab   *slab
	life   uint64
	off, n uint32
}

func newTail(bytes int64) *tail {
	return &tail{max: int(bytes / slabSize)}
}

// add copies an append into the ring.
func (t *tail) add(data []byte) tailRef {
	n := len(data)
	if n > tailMaxAppend || t.max == 0 {
		return tailRef{}
	}
	t.mu.Lock()
	s := t.room(n)
	ref := tailRef{slab: s, life: s.life, off: uint32(s.used), n: uint32(n)}
	s.used += n
	dst := s.buf[ref.off:][:n]
	if n <= tailInLock {
		copy(dst, data)
		t.mu.Unlock()
		return ref
	}
	s.pins++
	t.mu.Unlock()
	copy(dst, data)
	t.unpin(s)
	return ref
}

// room returns the slab that has n bytes left. The caller holds mu.
func (t *tail) room(n int) *slab {
	if len(t.ring) > 0 {
		if s := t.ring[len(t.ring)-1]; s.used+n <= slabSize {
			return s
		}
	}
	if len(t.ring) >= t.max {
		oldest := t.ring[0]
		t.ring = append(t.ring[:0], t.ring[1:]...)
		oldest.out = true
		t.retire(oldest)
	}
	var s *slab
	if k := len(t.spare); k > 0 {
		s, t.spare = t.spare[k-1], t.spare[:k-1]
	} else {
		s = &slab{buf: make([]byte, slabSize)}
		t.bytes += slabSize
	}
	s.used, s.out = 0, false
	s.life++
	t.ring = append(t.ring, s)
	return s
}

// retire takes back a slab that left the ring once nobody reads it. The caller holds mu.
func (t *tail) retire(s *slab) {
	if !s.out || s.pins > 0 {
		return
	}
	if len(t.spare) < 4 {
		t.spare = append(t.spare, s)
		s.life++ // references to its last life are stale from here on
	} else {
		t.bytes -= slabSize
	}
}

func (t *tail) unpin(s *slab) {
	t.mu.Lock()
	s.pins--
	t.retire(s)
	t.mu.Unlock()
}

// pin keeps the slabs of all refs from being reused, or none: false means that the first of them is gone.
func (t *tail) pin(refs []tailRef) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range refs {
		if r.slab.life != r.life || r.slab.out {
			return false
		}
	}
	for _, r := range refs {
		r.slab.pins++
	}
	return true
}

func (t *tail) size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes
}

// recent remembers where in the tail a partition's last appends are. It is guarded by the partition's lock and made
// at the first append.
type recent struct {
	entries [16]recentEntry
	n       int // entries ever added; the newest is at (n-1) % 16
}

type recentEntry struct {
	base, next int64
	ref        tailRef
}

// add notes an append. One that follows the last one directly, in the log and in the slab, extends its entry.
func (r *recent) add(base, next int64, ref tailRef) {
	if r.n > 0 {
		last := &r.entries[(r.n-1)%len(r.entries)]
		if last.next == base && last.ref.slab == ref.slab && last.ref.life == ref.life &&
			last.ref.off+last.ref.n == ref.off && last.ref.n+ref.n <= tailMaxAppend {
			last.next = next
			last.ref.n += ref.n
			return
		}
	}
	r.entries[r.n%len(r.entries)] = recentEntry{base, next, ref}
	r.n++
}

// find collects the entries from the one that holds offset from on, of up to maxBytes together, at least one.
func (r *recent) find(from int64, maxBytes int, found []recentEntry) []recentEntry {
	oldest := max(0, r.n-len(r.entries))
	i := r.n
	for i > oldest && r.entries[(i-1)%len(r.entries)].next > from {
		i--
	}
	for ; i < r.n; i++ {
		e := r.entries[i%len(r.entries)]
		switch {
		case len(found) == 0 && e.base > from:
			return found // the batch with from is older than what is remembered
		case len(found) > 0 && (e.base != found[len(found)-1].next || maxBytes < int(e.ref.n)):
			return found
		}
		maxBytes -= int(e.ref.n)
		found = append(found, e)
	}
	return found
}
