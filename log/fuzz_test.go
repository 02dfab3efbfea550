package log

import (
	"bytes"
	"hash/crc32"
	"testing"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/stretchr/testify/require"
)

// What a decoder accepts it must encode to the same bytes again: nothing was ignored.

func FuzzIdentity(f *testing.F) {
	f.Add(newIdentity().encode())
	f.Add([]byte(identityMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := decodeIdentity(b); err == nil {
			require.Equal(t, b, id.encode())
		}
	})
}

func exampleRecord() partitionRecord {
	return partitionRecord{
		number: 3, id: testID(7), config: Config{Fsync: FsyncInterval, Compact: true}.withDefaults(), sealed: true,
		start: 5, end: 90, lastTime: 12, lastEpoch: 2, generation: 1, applied: 44, snapshotFile: 60,
		segments: []segmentState{{segmentName{5, 0}, 100, 7}, {segmentName{40, 1}, 200, 12}},
		epochs:   []EpochStart{{1, 5}, {2, 50}}, values: []value{{1, []byte("fence")}},
		snapshot: &snapshot{80, 2, []byte("state")}, cuts: []cutMark{{1, 40}, {2, 60}},
	}
}

func FuzzCheckpoint(f *testing.F) {
	c := checkpoint{clean: true, position: position{2, 4096, 9}, nextSeq: 45, nextNumber: 4, deleted: []ID{testID(2)},
		records: [][]byte{exampleRecord().encode()}}
	f.Add(c.encode())
	f.Add([]byte(checkpointMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCheckpoint(sealed(b))
		if err != nil {
			return
		}
		for _, r := range c.records {
			decodePartitionRecord(r)
		}
		again, err := decodeCheckpoint(c.encode())
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}

func FuzzPartitionRecord(f *testing.F) {
	f.Add(exampleRecord().encode())
	f.Add(partitionRecord{config: Config{}.withDefaults(), snapshotFile: -1}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodePartitionRecord(b)
		if err != nil {
			return
		}
		again, err := decodePartitionRecord(r.encode())
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

// sealed gives bytes a valid checksum at their end, so that the fuzzer gets behind it.
func sealed(b []byte) []byte {
	if len(b) < 4 {
		return b
	}
	body := bytes.Clone(b[:len(b)-4])
	return appendU32(body, checksum(body))
}

func FuzzIndex(f *testing.F) {
	x := newIndex(0)
	for i := range int64(10) {
		x.add(uint32(i*10), i*8192, i*1000)
	}
	name := segmentName{77, 2}
	f.Add(x.encode(name, 1<<20))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, covered, err := decodeIndex(sealed(b), name)
		if err != nil {
			return
		}
		again, c, err := decodeIndex(x.encode(name, covered), name)
		require.NoError(t, err)
		require.Equal(t, covered, c)
		require.Equal(t, x.entries, again.entries)
		x.truncate(covered / 2)
		x.byOffset(5)
		x.byTime(5)
	})
}

func FuzzSnapshotFile(f *testing.F) {
	f.Add(snapshot{offset: 9, state: []byte("state")}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		b = sealed(b)
		if s, err := decodeSnapshot(b); err == nil {
			require.Equal(t, b, s.encode())
		}
	})
}

// FuzzEntries decodes the payload of every kind of entry.
func FuzzEntries(f *testing.F) {
	f.Add(uint8(entryCreate), encodeCreate([]created{{1, testID(1), Config{}.withDefaults()}}))
	f.Add(uint8(entryDelete), encodeDelete([]uint32{1, 2}))
	f.Add(uint8(entryTruncate), encodeTruncate(truncation{end: 5, generation: 2, last: segmentState{segmentName{0, 1}, 10, 3}}))
	f.Add(uint8(entryStart), encodeStart(startChange{3, 4, true, EpochStart{}}))
	f.Add(uint8(entryStart), encodeStart(startChange{3, 4, true, EpochStart{2, 1}}))
	f.Add(uint8(entryReset), encodeReset(resetChange{9, 40, 2}))
	f.Add(uint8(entryValue), encodeValue(3, []byte("value")))
	f.Add(uint8(entryConfig), encodeConfigEntry(configChange{3, Config{Fsync: FsyncNever}.withDefaults()}))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		var again []byte
		var err error
		switch entryKind(kind) {
		case entryCreate:
			var list []created
			if list, err = decodeCreate(b); err == nil {
				_, err = decodeCreate(encodeCreate(list))
				require.NoError(t, err)
			}
			return
		case entryDelete:
			var list []uint32
			list, err = decodeDelete(b)
			again = encodeDelete(list)
		case entryTruncate:
			var v truncation
			v, err = decodeTruncate(b)
			again = encodeTruncate(v)
		case entryValue:
			var key uint8
			var v []byte
			key, v, err = decodeValue(b)
			again = encodeValue(key, v)
		case entryReset:
			var v resetChange
			v, err = decodeReset(b)
			again = encodeReset(v)
		case entryStart:
			decodeStart(b)
			return
		case entryConfig:
			decodeConfigEntry(b)
			return
		case entryReplace:
			decodeReplace(b)
			return
		default:
			return
		}
		if err == nil {
			require.Equal(t, b, again)
		}
	})
}

// FuzzJournal reads a file of groups of which some bytes are anything.
func FuzzJournal(f *testing.F) {
	h := fileHeader{lap: 1, size: 4 * journalBlock, salt: 5}
	file := make([]byte, h.size)
	h.putBlock(file)
	g := groupHeader{length: groupHeaderSize + entryHeaderSize + 3, lap: 1, number: 1, firstSeq: 1, entries: 1}
	at := int64(journalBlock)
	crc := g.put(file[at:], h.salt, at)
	e := file[at+groupHeaderSize:]
	entryHeader{kind: entryValue, number: 1, length: 3, crc: checksum([]byte("abc"))}.put(e)
	copy(e[entryHeaderSize:], "abc")
	putEntriesCRC(file[at:], crc32.Update(crc, castagnoli, e[:entryHeaderSize]))
	f.Add(file, uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		if len(b) < 2*journalBlock || len(b) > 64*journalBlock {
			return
		}
		b = bytes.Clone(b[:len(b)/journalBlock*journalBlock])
		b[int(at)%len(b)] ^= flip
		h, used, err := parseHeaderBlock(b[:journalBlock])
		if err != nil || !used {
			h = fileHeader{lap: 1, salt: 5}
		}
		h.size = int64(len(b))
		r := newJournalReader(bytes.NewReader(b), "fuzz", h, 0, vfs.AlignedBuffer(journalBlock))
		for {
			before := r.at
			_, entries, ok, err := r.next()
			require.NoError(t, err)
			if !ok {
				break
			}
			require.Greater(t, r.at, before)
			for _, e := range entries {
				require.Len(t, e.data, int(e.length))
			}
		}
		_, _, err = r.laterGroup(1)
		require.NoError(t, err)
	})
}
