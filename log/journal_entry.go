package log

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Byte diagrams of group and entry headers are in the package documentation.

const (
	journalBlock    = 4096
	groupHeaderSize = 48
	entryHeaderSize = 16
	groupMagic      = 0x52475153 // "SQGR"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type entryKind uint8

const (
	entryBatches  entryKind = 1 // batches as stamped, appended to a partition
	entryCreate   entryKind = 2 // any number of partitions created; see encodeCreate
	entryDelete   entryKind = 3 // any number of partitions deleted; u32 numbers
	entryTruncate entryKind = 4 // i64 end, u32 generation: the suffix from end on is gone
	entryStart    entryKind = 5 // i64 start: the prefix below start is gone
	entryValue    entryKind = 6 // u8 key, then the value; no value bytes remove it
	entryConfig   entryKind = 7 // i64 end, then the configuration from here on; see encodeConfigEntry
	entryReplace  entryKind = 8 // segments replaced by a rewritten one; see encodeReplace
	entryReset    entryKind = 9 // the log begins anew, empty; see encodeReset
)

func (k entryKind) String() string {
	names := [...]string{1: "batches", 2: "create", 3: "delete", 4: "truncate", 5: "start", 6: "value", 7: "config", 8: "replace", 9: "reset"}
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// flagNewSegment marks batches that begin a new segment: recovery divides the log into the same files, whatever the
// configuration says by then.
const flagNewSegment = 1

// entryHeader precedes the data of every entry.
type entryHeader struct {
	kind   entryKind
	flags  uint8
	number uint32 // of the partition; 0 for entries about several
	length uint32 // of the data
	crc    uint32 // CRC32C of the data
}

func (h entryHeader) put(b []byte) {
	_ = b[entryHeaderSize-1]
	b[0], b[1], b[2], b[3] = byte(h.kind), h.flags, 0, 0
	binary.LittleEndian.PutUint32(b[4:], h.length)
	binary.LittleEndian.PutUint32(b[8:], h.number)
	binary.LittleEndian.PutUint32(b[12:], h.crc)
}

func parseEntryHeader(b []byte) entryHeader {
	return entryHeader{
		kind:   entryKind(b[0]),
		flags:  b[1],
		length: binary.LittleEndian.Uint32(b[4:]),
		number: binary.LittleEndian.Uint32(b[8:]),
		crc:    binary.LittleEndian.Uint32(b[12:]),
	}
}

// groupHeader opens a commit group: what was written with one write and one flush.
type groupHeader struct {
	length     uint32 // header, entry headers and data; without the padding to the block
	lap        uint64
	number     uint64 // of the group, counted over the store's life
	firstSeq   uint64 // sequence number of the first entry
	entries    uint32
	entriesCRC uint32 // CRC32C of all entry headers, seeded with the header's CRC
}

const (
	groupHeaderCRC = 40 // where the header's CRC lies; it covers what precedes it
	groupSeedShift = 32
)

// seed starts the header's CRC. The salt is random per lap, so a batch's payload cannot imitate a group; with the lap
// and the block number in the header, bytes of an earlier lap, or of this lap elsewhere, never validate.
func seed(salt uint64) uint32 { return uint32(salt) ^ uint32(salt>>groupSeedShift) }

// put writes the header without entriesCRC and returns its CRC, the seed of entriesCRC.
func (h groupHeader) put(b []byte, salt uint64, at int64) uint32 {
	_ = b[groupHeaderSize-1]
	binary.LittleEndian.PutUint32(b, groupMagic)
	binary.LittleEndian.PutUint32(b[4:], h.length)
	binary.LittleEndian.PutUint64(b[8:], h.lap)
	binary.LittleEndian.PutUint64(b[16:], h.number)
	binary.LittleEndian.PutUint64(b[24:], h.firstSeq)
	binary.LittleEndian.PutUint32(b[32:], h.entries)
	binary.LittleEndian.PutUint32(b[36:], uint32(at/journalBlock))
	crc := crc32.Update(seed(salt), castagnoli, b[:groupHeaderCRC])
	binary.LittleEndian.PutUint32(b[groupHeaderCRC:], crc)
	return crc
}

func putEntriesCRC(b []byte, crc uint32) { binary.LittleEndian.PutUint32(b[44:], crc) }

// parseGroupHeader reads a group header at position at of a file with the given lap and salt. ok is false where there
// is none: stale, torn or never written bytes.
func parseGroupHeader(b []byte, lap, salt uint64, at int64) (h groupHeader, headerCRC uint32, ok bool) {
	if len(b) < groupHeaderSize || binary.LittleEndian.Uint32(b) != groupMagic {
		return h, 0, false
	}
	h = groupHeader{
		length:     binary.LittleEndian.Uint32(b[4:]),
		lap:        binary.LittleEndian.Uint64(b[8:]),
		number:     binary.LittleEndian.Uint64(b[16:]),
		firstSeq:   binary.LittleEndian.Uint64(b[24:]),
		entries:    binary.LittleEndian.Uint32(b[32:]),
		entriesCRC: binary.LittleEndian.Uint32(b[44:]),
	}
	crc := crc32.Update(seed(salt), castagnoli, b[:groupHeaderCRC])
	ok = h.lap == lap && binary.LittleEndian.Uint32(b[36:]) == uint32(at/journalBlock) &&
		crc == binary.LittleEndian.Uint32(b[groupHeaderCRC:]) &&
		h.length >= groupHeaderSize && uint64(h.length) >= groupHeaderSize+uint64(h.entries)*entryHeaderSize
	return h, crc, ok
}

// entry is one entry of a group that has been read.
type entry struct {
	entryHeader
	seq  uint64
	data []byte // aliases the reader's buffer
}

// walkGroup checks the entries of a whole group against its header and hands them out in order once all are known to
// be good. group is exactly header.length bytes. ok is false if any of it is not what was written.
func walkGroup(group []byte, h groupHeader, headerCRC uint32, entries []entry) (_ []entry, ok bool) {
	crc, at := headerCRC, groupHeaderSize
	for i := range h.entries {
		if len(group)-at < entryHeaderSize {
			return entries, false
		}
		eh := parseEntryHeader(group[at:])
		crc = crc32.Update(crc, castagnoli, group[at:at+entryHeaderSize])
		at += entryHeaderSize
		if uint64(eh.length) > uint64(len(group)-at) {
			return entries, false
		}
		data := group[at : at+int(eh.length) : at+int(eh.length)]
		if crc32.Checksum(data, castagnoli) != eh.crc {
			return entries, false
		}
		at += int(eh.length)
		entries = append(entries, entry{entryHeader: eh, seq: h.firstSeq + uint64(i), data: data})
	}
	return entries, at == len(group) && crc == h.entriesCRC
}

func padded(n int64) int64 { return (n + journalBlock - 1) / journalBlock * journalBlock }
