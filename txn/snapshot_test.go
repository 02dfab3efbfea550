package txn

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/require"
)

func filled(window int) *Producers {
	p := NewProducers(window)
	for i := range uint32(100) {
		p.Apply(header(uint64(1+i%7), 1+i%7, i/7*3, 2, int64(i)*3, int64(i)))
	}
	return p
}

// seal writes the checksum anew, so that what is behind it is reached.
func seal(b []byte) []byte {
	body := b[:len(b)-crcSize]
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

func TestSnapshotRefusesDamage(t *testing.T) {
	good := filled(4).Snapshot()
	p := filled(2)
	before := p.Hash()
	refuse := func(b []byte, msg string) {
		t.Helper()
		require.ErrorIs(t, p.Restore(b), ErrSnapshot, msg)
		require.Equal(t, before, p.Hash(), "a failed restore changes nothing")
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x10
		refuse(b, "flipped bit")
		if i > 0 {
			refuse(good[:i], "cut off")
		}
	}
	le := binary.LittleEndian
	for name, at := range map[string]int{"magic": 0, "version": 4, "producers": 8, "id": 12, "batches": 36} {
		b := bytes.Clone(good)
		le.PutUint32(b[at:], 0xfffffff0)
		refuse(seal(b), name)
	}
	refuse(seal(append(bytes.Clone(good), 0)), "bytes left over")
	zero := bytes.Clone(good)
	le.PutUint64(zero[12:], 0)
	refuse(seal(zero), "producer 0")
	require.NoError(t, p.Restore(nil))
	require.Zero(t, p.Len())
}

func TestSnapshotIntoSmallerWindowKeepsTheYoungest(t *testing.T) {
	p := NewProducers(2)
	require.NoError(t, p.Restore(filled(8).Snapshot()))
	require.Equal(t, filled(2).Snapshot(), p.Snapshot())
}

func FuzzRestore(f *testing.F) {
	f.Add(filled(4).Snapshot())
	f.Add(NewProducers(0).Snapshot())
	f.Add([]byte("SQPS"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > crcSize {
			b = seal(b)
		}
		p := NewProducers(4)
		if p.Restore(b) != nil {
			return
		}
		q := NewProducers(4)
		if err := q.Restore(p.Snapshot()); err != nil || q.Hash() != p.Hash() {
			t.Fatalf("restored state does not restore: %v", err)
		}
		for id := range p.byID {
			_, _ = p.Check(id, 1, 2, 3)
			p.Apply(header(id, 1, 2, 3, 4, 5))
		}
	})
}
