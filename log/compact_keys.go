package log

import "hash/maphash"

// keyMap remembers the newest offset of each key in a fixed amount of memory: 24 bytes a slot, whatever the keys'
// lengths. Keys are told apart by 128 bits of two hashes seeded anew for each map, so that nobody can choose keys that
// collide; two different keys of a million are confused with probability 1e-27.
type keyMap struct {
	seeds [2]maphash.Seed
	slots []keySlot // a power of two of them; offset 0 = empty, else offset+1
	used  int
	limit int // full at this many
}

type keySlot struct {
	hash   [2]uint64
	offset int64
}

const keySlotBytes = 24

// newKeyMap makes a map of at most budget bytes (at least one page of slots).
func newKeyMap(budget int64) *keyMap {
	n := int64(64)
	for 2*n*keySlotBytes <= budget {
		n *= 2
	}
	return &keyMap{
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		slots: make([]keySlot, n),
		limit: int(n - n/4),
	}
}

// find returns the key's slot, or the empty one where it belongs.
func (m *keyMap) find(key []byte) *keySlot {
	h := [2]uint64{maphash.Bytes(m.seeds[0], key), maphash.Bytes(m.seeds[1], key)}
	mask := uint64(len(m.slots) - 1)
	for i := h[0] & mask; ; i = (i + 1) & mask {
		s := &m.slots[i]
		if s.offset == 0 {
			s.hash = h
			return s
		}
		if s.hash == h {
			return s
		}
	}
}

// put notes that key occurs at offset, above all noted before. It reports false, without noting it, when the map is
// full and does not know the key.
func (m *keyMap) put(key []byte, offset int64) bool {
	s := m.find(key)
	if s.offset == 0 {
		if m.used == m.limit {
			return false
		}
		m.used++
	}
	s.offset = offset + 1
	return true
}

// newest returns the highest offset noted for key.
func (m *keyMap) newest(key []byte) (offset int64, ok bool) {
	s := m.find(key)
	return s.offset - 1, s.offset != 0
}

// clear empties the map for another pass.
func (m *keyMap) clear() {
	clear(m.slots)
	m.used = 0
}
