package vfs

import (
	"math/rand/v2"
	"slices"
)

// Crash returns what a disk may hold after power is lost now. The receiver is not changed.
//
// Everything durable is there. Of what is not, about keep (0 to 1) survives, chosen by rng in one of three ways: every
// sector by itself; for each file and directory its changes in order up to some point, the last one torn; or all
// changes of the file system in order up to some point. Changes of one directory always survive in order. keep 1 is the
// death of the process alone: all is there, but for the calls in flight, which may be torn in the middle. The
// new file system has no faults set, no locks held, and takes over the capacity.
func (m *Mem) Crash(keep float64, rng *rand.Rand) *Mem {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := &crash{keep: keep, rng: rng, mode: rng.IntN(3), cuts: map[*node]int{}, copies: map[*node]*node{}}
	out := &Mem{noDirect: m.noDirect, capacity: m.capacity, seq: m.seq}
	dirs := m.directories()
	if c.mode == modeGlobal {
		c.chooseSeq(dirs)
	}
	for _, d := range dirs {
		c.cuts[d] = c.chooseNames(d)
	}
	c.agree(dirs)
	out.root = c.copyDir(m.root)
	for _, n := range c.copies {
		out.used += int64(len(n.blocks)) * blockSize
	}
	return out
}

const (
	modeSectors = iota
	modePrefix
	modeGlobal
)

type crash struct {
	keep   float64
	rng    *rand.Rand
	mode   int
	seq    uint64        // modeGlobal: the last change that survives, perhaps torn
	cuts   map[*node]int // directory -> how many of its pending name changes survive
	copies map[*node]*node
}

// directories lists all that are seen now or may be after a crash, in a fixed order.
func (m *Mem) directories() []*node {
	seen := map[*node]bool{}
	var list []*node
	var visit func(n *node)
	visit = func(n *node) {
		if n == nil || !n.dir || seen[n] {
			return
		}
		seen[n] = true
		list = append(list, n)
		for _, entries := range []map[string]*node{n.durableEntries, n.entries} {
			for _, name := range sortedKeys(entries) {
				visit(entries[name])
			}
		}
		for _, c := range n.pendingNames {
			visit(c.from)
			visit(c.to)
			visit(c.target)
		}
	}
	visit(m.root)
	return list
}

func sortedKeys(entries map[string]*node) []string {
	keys := make([]string, 0, len(entries))
	for k := range entries {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// chooseSeq picks the point up to which everything survives.
func (c *crash) chooseSeq(dirs []*node) {
	var seqs []uint64
	files := map[*node]bool{}
	for _, d := range dirs {
		for _, p := range d.pendingNames {
			seqs = append(seqs, p.seq)
			files[p.target] = p.target != nil && !p.target.dir
		}
		for _, entries := range []map[string]*node{d.entries, d.durableEntries} {
			for _, n := range entries {
				files[n] = !n.dir
			}
		}
	}
	for n, is := range files {
		if is {
			for _, p := range n.pending {
				seqs = append(seqs, p.seq)
			}
		}
	}
	slices.Sort(seqs)
	if k := c.count(len(seqs)); k > 0 {
		c.seq = seqs[k-1]
	}
}

// count is how many of n survive.
func (c *crash) count(n int) int {
	k := 0
	for range n {
		if c.survives() {
			k++
		}
	}
	return k
}

func (c *crash) survives() bool { return c.keep > 0 && c.rng.Float64() < c.keep }

func (c *crash) chooseNames(d *node) int {
	n := len(d.pendingNames)
	if c.mode != modeGlobal || c.keep >= 1 {
		return c.count(n)
	}
	for i, p := range d.pendingNames {
		if p.seq > c.seq {
			return i
		}
	}
	return n
}

// agree lowers cuts until every rename between two directories survives in both or in neither.
func (c *crash) agree(dirs []*node) {
	for again := true; again; {
		again = false
		for _, d := range dirs {
			for i, p := range d.pendingNames[:c.cuts[d]] {
				other := p.from
				if other == d {
					other = p.to
				}
				if other == nil || other == d {
					continue
				}
				if j := slices.Index(other.pendingNames, p); j >= c.cuts[other] {
					c.cuts[d], again = i, true
					break
				}
			}
		}
	}
}

func (c *crash) copyDir(d *node) *node {
	if n, ok := c.copies[d]; ok {
		return n
	}
	n := newDir()
	c.copies[d] = n
	names := make(map[string]*node, len(d.durableEntries))
	for name, child := range d.durableEntries {
		names[name] = child
	}
	for _, p := range d.pendingNames[:c.cuts[d]] {
		if p.from == d {
			delete(names, p.fromName)
		}
		if p.to == d {
			names[p.toName] = p.target
		}
	}
	for _, name := range sortedKeys(names) {
		child := names[name]
		var twin *node
		if child.dir {
			twin = c.copyDir(child)
		} else {
			twin = c.copyFile(child)
		}
		n.entries[name], n.durableEntries[name] = twin, twin
	}
	return n
}

func (c *crash) copyFile(f *node) *node {
	if n, ok := c.copies[f]; ok {
		return n
	}
	var data []byte
	switch {
	case c.keep >= 1:
		data = c.torn(f)
	case c.keep <= 0 || len(f.pending) == 0:
		data = slices.Clone(f.durable)
	default:
		data = c.partial(f)
	}
	n := &node{linked: true, data: data, durable: slices.Clone(data), blocks: map[int64]struct{}{}}
	for b := int64(0); b*blockSize < int64(len(data)); b++ {
		// Blocks allocated past what was written do not outlive the crash, and neither do holes.
		n.blocks[b] = struct{}{}
	}
	c.copies[f] = n
	return n
}

// torn is what readers see now, with a random rest of the newest call in flight undone.
func (c *crash) torn(f *node) []byte {
	data := slices.Clone(f.data)
	if len(f.pending) == 0 {
		return data
	}
	last := f.pending[len(f.pending)-1]
	if !last.inFlight {
		return data
	}
	if last.resize {
		return data
	}
	done := c.rng.IntN(last.sectors() + 1)
	if done == last.sectors() {
		return data
	}
	at := int64(done * sectorSize)
	size := max(last.sizeWas, min(last.off+at, int64(len(data))))
	data = data[:size]
	if at < int64(len(last.before)) {
		copy(data[last.off+at:], last.before[at:])
	}
	return data
}

// partial is the durable content with some of the pending changes.
func (c *crash) partial(f *node) []byte {
	data := slices.Clone(f.durable)
	whole := len(f.pending) // so many changes survive whole, then one torn, then none
	switch c.mode {
	case modePrefix:
		whole = c.count(len(f.pending))
	case modeGlobal:
		whole = 0
		for whole < len(f.pending) && f.pending[whole].seq < c.seq {
			whole++
		}
	}
	largest := int64(len(data))
	for i, p := range f.pending {
		largest = max(largest, p.size)
		switch {
		case c.mode == modeSectors:
			data = c.someSectors(data, p)
		case i < whole:
			data = p.applyAll(data)
		case i == whole && !p.resize && (c.mode == modePrefix || p.seq == c.seq):
			for s := range c.rng.IntN(p.sectors() + 1) {
				data = p.applySector(data, s)
			}
		}
	}
	// A file system may save the new size before the data: what was never written then reads as zeros.
	if c.mode == modeSectors && largest > int64(len(data)) && c.rng.IntN(4) == 0 {
		data = resized(data, largest)
	}
	return data
}

func (c *crash) someSectors(data []byte, p *change) []byte {
	if p.resize {
		if c.survives() {
			data = p.applyAll(data)
		}
		return data
	}
	for s := range p.sectors() {
		if c.survives() {
			data = p.applySector(data, s)
		}
	}
	return data
}
