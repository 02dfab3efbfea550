package consensus

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/sequitur-mq/sequitur/wire"
)

// Snapshot returns the whole state; equal states have equal snapshots.
func (m *Machine) Snapshot() []byte {
	dst := []byte{formatVersion}
	dst = le.AppendUint64(dst, m.applied)
	dst = le.AppendUint64(dst, m.nextProducer)
	dst = appendCount(dst, len(m.named))
	for _, name := range slices.Sorted(maps.Keys(m.named)) {
		p := m.named[name]
		dst = appendSized(dst, func(dst []byte) []byte {
			dst = appendBytes(dst, name)
			dst = le.AppendUint64(dst, p.ID)
			return le.AppendUint32(dst, p.Epoch)
		})
	}
	dst = appendCount(dst, len(m.topics))
	for _, t := range sortedTopics(m.topics) {
		dst = t.appendTo(dst)
	}
	dst = appendCount(dst, len(m.deleted))
	for _, id := range slices.SortedFunc(maps.Keys(m.deleted), func(a, b wire.UUID) int { return bytes.Compare(a[:], b[:]) }) {
		dst = append(dst, id[:]...)
		dst = le.AppendUint32(dst, m.deleted[id])
	}
	dst = le.AppendUint32(dst, m.nextDisk)
	brokers := m.Brokers()
	dst = appendCount(dst, len(brokers))
	for i := range brokers {
		dst = brokers[i].appendTo(dst)
	}
	dst = appendCount(dst, len(m.removed))
	for _, disk := range m.removed {
		dst = append(dst, disk[:]...)
	}
	return m.answered.appendTo(dst)
}

func sortedTopics(topics map[string]*Topic) []*Topic {
	return slices.SortedFunc(maps.Values(topics), func(a, b *Topic) int { return cmp.Compare(a.Name, b.Name) })
}

// Restore replaces the state by that of a snapshot. After an error the machine
// is as it was.
func (m *Machine) Restore(snapshot []byte) error {
	d := &decoder{b: snapshot}
	d.readVersion("snapshot")
	next := NewMachine()
	next.applied, next.nextProducer = d.u64(), d.u64()
	for range d.count(minSized) {
		in := d.sized()
		name := string(in.bytes())
		next.named[name] = NamedProducer{ID: in.u64(), Epoch: in.u32()}
		if d.join(in); d.err != nil {
			break
		}
	}
	for range d.count(minSized) {
		t := d.topic()
		if d.err != nil {
			break
		}
		if _, taken := next.topics[t.Name]; taken {
			d.fail("two topics of one name")
			break
		}
		if _, taken := next.byID[t.ID]; taken {
			d.fail("two topics of one UUID")
			break
		}
		next.put(t)
	}
	for range d.count(len(wire.UUID{}) + 4) {
		id := d.uuid()
		next.deleted[id] = d.u32()
	}
	if d.version >= 2 {
		next.restoreBrokers(d)
		next.answered = d.answered()
	}
	if d.err != nil {
		return fmt.Errorf("restore metadata: %w", d.err)
	}
	*m = *next
	return nil
}

func (m *Machine) restoreBrokers(d *decoder) {
	m.nextDisk = d.u32()
	for range d.count(minSized) {
		b := d.broker()
		if d.err != nil {
			return
		}
		if _, twice := m.brokers[b.Node]; twice || b.Disk == 0 || b.Disk >= m.nextDisk {
			d.fail(fmt.Sprintf("broker %d with disk %d is there twice or has a number never given out", b.Node, b.Disk))
			return
		}
		m.brokers[b.Node] = b
	}
	for range d.count(16) {
		m.removed = append(m.removed, d.uuid())
	}
}

// Hash identifies the state: equal for machines that applied the same commands.
func (m *Machine) Hash() uint64 { return xxhash.Sum64(m.Snapshot()) }
