// Package log is the storage engine: partitions of batches in one data directory, one shared journal for durability,
// segments per partition for reading. Everything that is durable here was an entry of the journal first.
//
// # A data directory
//
//	lock                     flock of the process that has the directory open
//	identity                 cluster UUID, node id, disk UUID
//	checkpoint               the state of every partition as of a place in the journal; replaced atomically
//	ballast                  space given up to write a checkpoint on a full disk
//	journal/NNNN.jnl         fixed-size files, written with zeros before use and used again and again
//	partitions/<topic UUID, 32 hex digits>/<partition>/
//	    <base offset, 20 digits>[-<generation>].log    a segment: batches one after the other, nothing else
//	    <base offset, 20 digits>[-<generation>].idx    its sparse index; can be rebuilt
//	    producers.<offset, 20 digits>                  an owner's state that covers everything below offset
//
// A partition has no file before its first append. Integers are little-endian, checksums CRC32C. Batches are described in
// package record. A later format has another version number and is refused, never guessed at.
//
// # Journal
//
// A file is used in laps: each time it is taken into use its header is written anew with the next lap number. A lap
// consists of commit groups, each padded to 4,096 bytes and written with one write and one flush. The first block of a
// file holds two copies of the header, at 0 and 2,048:
//
//	 0  8  "SQTRJNL1"
//	 8  4  version, 1
//	12  4  0
//	16  8  lap
//	24  8  size of the file
//	32 16  disk UUID of the store
//	48  8  salt, random per lap
//	56 24  where the lap before ended: lap (8), byte (8), number of the next group (8)
//	80  4  CRC of the bytes before
//
// A group, at a multiple of 4,096:
//
//	 0  4  "SQGR"
//	 4  4  length: header, entries, without the padding
//	 8  8  lap
//	16  8  group number, counted over the life of the store
//	24  8  sequence number of the first entry, counted likewise
//	32  4  number of entries
//	36  4  place: byte in the file / 4,096
//	40  4  CRC of the bytes before, seeded with the salt (its halves xored)
//	44  4  CRC of all entry headers, seeded with the CRC before
//	48     entries
//
// An entry:
//
//	 0  1  kind
//	 1  1  flags: 1 = these batches begin a new segment
//	 2  2  0
//	 4  4  length of the data
//	 8  4  partition number, 0 if about several
//	12  4  CRC of the data
//	16     data
//
// The kinds and their data (config: fsync mode 1, flags 1 (1 compact, 2 essential), then 8 each: fsync interval and retention
// time in ns, retention bytes, tombstone retention in ns, segment bytes; segment: base 8, generation 4, size 8, append time
// of the last batch 8):
//
//	1 batches    as stamped
//	2 create     count 4, each: number 4, topic UUID 16, partition 4, config 42
//	3 delete     count 4, numbers 4 each
//	4 truncate   end 8, generation of later segments 4, the segment that stays as the last one, as it is after the cut 28
//	5 start      start 8, end at that time 8, whether the last segment was closed 1; if there was a record before the
//	             start, its epoch 4 and where that began 8
//	6 value      key 1, value
//	7 config     end at that time 8, config 42
//	8 replace    generation 4, count 4, names replaced 12 each (base 8, generation 4), the new segment 28
//	9 reset      end at that time 8, start of the new, empty log 8, generation of later segments 4
//
// Because lap, place and salt go into the group's checksum, bytes of earlier laps never validate, and what a batch carries
// cannot pass for a group. Because a group is begun only after the one before it is durable, a group that does not
// validate is the torn tail if no later group of the lap was begun, and damage if one was. Because each lap names the end of the
// one before it, a missing piece between files is found.
//
// # Checkpoint
//
//	 0  8  "SQTRCKP1"
//	 8  4  version, 1
//	12  4  flags: 1 = written by Close
//	16 16  disk UUID
//	32 24  where recovery reads the journal from: lap (8), byte (8), group number (8)
//	56  8  next sequence number
//	64  4  next partition number
//	68  4  number of deleted partitions whose directories may remain, then topic UUID 16, partition 4 each
//	       number of partitions 4, then for each: length 4 and
//	           number 4, topic UUID 16, partition 4, config 42, closed 1, start 8, end 8, last append time 8, last epoch 4,
//	           generation 4, sequence number of the last entry reflected 8, offset of the newest producers file 8,
//	           segments: count 4, 28 each; epochs: count 4, epoch 4 and first offset 8 each;
//	           values: count 4, key 1, length 4, bytes each; truncations that producers files may be older than: count 4,
//	           generation 4, end 8 each; snapshot: offset 8, length 4, bytes
//	       CRC of all before 4
//
// Order of a checkpoint: note the journal's end; capture every partition that changed since the last one (each owner's
// snapshot first, so that it never covers more than the log has); make all segments durable as far as captured; replace
// the file; use the journal files before the noted end again; save owners' states as producers files (not before: the
// capture may be ahead of the journal); remove the files that no checkpoint speaks of any more.
// Appends go on meanwhile. Write-back of segments is started early, so that there is little to sync.
//
// # Other files
//
// Index, an entry per 4 KiB of segment at least, at most 2,048 entries: "SQTRIDX1", version 4, count 4, base 8, generation
// 4, bytes of the segment covered 8, entries {relative offset 4, position 4, append time 8}, CRC 4.
// Producers file: "SQTRPRD1", version 4, offset 8, generation 4, length 4, state, CRC 4.
// Identity: "SQTRID01", version 4, cluster UUID 16, node 4, disk UUID 16, CRC 4.
//
// # Recovery
//
//  1. Read identity and checkpoint. Without a checkpoint the journal must go back to its first group.
//  2. Read the journal from the checkpoint's place to its end, checking the chain. Damage before the end refuses the
//     start and names file and byte; nothing is thrown away on that ground. A torn last group is dropped as a whole: none
//     of it was acknowledged. (A bit that flips in the very last group cannot be told from a torn write.)
//  3. Apply each entry that its partition does not reflect yet. Batches that a segment lacks or holds otherwise are
//     written; bytes of segments beyond the journal's word are cut off.
//  4. Partitions that bypass the journal: keep the whole, valid batches that continue what the checkpoint knows.
//  5. Begin a new lap. Indexes and the checks of old segments wait until somebody reads there.
//
// Its time depends on the live journal (Options.JournalMaxBytes), not on the data.
//
// # What is assumed of the disk
//
// Sectors of 512 bytes are written whole or not at all; other than that a write may leave any subset of its sectors
// until it is flushed. What fdatasync or a direct, synchronous write has confirmed stays, though bits of it may rot:
// checksums find that. Renames are atomic and durable once the directory is synced. After a failed write or sync nothing is
// known about what it covered, so the first one is final ([ErrStorageFailed]).
//
// # What was decided otherwise than one might expect
//
//   - A truncation never overwrites: what is appended after it goes to a new file, and no file goes before a
//     checkpoint no longer knows it. So recovery can go through the same entries again after a crash within recovery.
//   - Entries say where they took effect (segment, position), so that replay does not depend on files that later entries
//     gave up.
//   - Sequence numbers, not positions, say what a partition reflects: a checkpoint may run ahead of the journal's
//     flushes, so taking one needs no barrier and cannot deadlock with a journal that waits for it.
//   - Append never waits for the journal: its caller holds a lock that completions and snapshots need. Back-pressure at
//     the journal's cap holds up acknowledgements instead, and whoever bounds what is in flight feels it.
//   - The memory tail takes appends up to 8 KiB only: larger ones are cheaper by sendfile from the page cache.
package log
