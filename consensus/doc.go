// Package consensus decides what exists: topics with their configuration and
// partitions, who leads what, producer ids and named producers.
//
// # The machine
//
// [Machine] is a pure state machine. Commands go in one at a time, each under
// an index that grows, and results come out. It has no clock, file or
// goroutine, so the same commands always make the same state, live, in a
// replay and on every member of a cluster.
//
// To keep that true for years, Apply judges only what nothing but the state can
// tell: whether a name is taken, whether a version is still the one that the
// proposer saw. Everything else (names, configuration, placement, limits) is
// checked by the proposer before it proposes, because such rules change from
// release to release while old commands are replayed.
//
// # The driver
//
// [Local] feeds the machine on a cluster of one broker: commands are appended
// to an internal partition of the log and applied, in order, when they are
// durable. Commands that arrive together share one group commit of the journal.
// A replicated log can feed the same machine: hand Apply the index and the
// bytes of every committed entry, use Snapshot and Restore as they are.
//
// # Formats
//
// Little-endian, like everything else; string, bytes and arrays begin with a
// uvarint length or count. Checksums are the batch's. "sized" data begin with
// their length as uvarint, and later versions may append fields: readers ignore
// bytes that they do not know and read absent fields as zero.
//
// A record of the internal partition has as key one byte, what it is, and:
//
//	1 command     value: u8 kind, u8 version (1), then
//	    1 create topics       array of sized topic
//	    2 alter topic         uuid, u32 version seen, sized config
//	    3 delete topics       array of uuid
//	    4 reserve producers   u32 how many
//	    5 init producer       string name, u64 id, u32 epoch (id 0: unconditionally)
//	2 snapshot    value: i64 next index (commands below it are in the snapshot),
//	              u32 chunk, u32 chunks, then this chunk's part of
//	    u8 version (1), u64 index applied, u64 next producer id,
//	    array of named producer, ascending by name:
//	        sized { string name, u64 id, u32 epoch }
//	    array of sized topic, ascending by name,
//	    array of tombstone, ascending by UUID: uuid, u32 partitions
//
//	topic      uuid (16 bytes), string name, u32 version, sized config,
//	           array of partition { u32 leader, u32 epoch, u32 replica-set version, array of u32 replica }
//	config     u32 partitions, u8 partitioner, array of bytes splits, u32 virtual nodes,
//	           u16 replication factor, u8 fsync, u64 fsync interval ms, u64 retention ms,
//	           u64 retention bytes, u8 cleanup, u32 segment bytes, u64 tombstone ms,
//	           u64 dedup window ms, u32 max batch bytes, u8 ordering
//
// A snapshot may be interrupted by commands and by a crash. It counts once all of
// its chunks are there, and only then is the log before its next index dropped.
package consensus
