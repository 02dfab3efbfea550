// Package consensus decides what exists: topics with their configuration and
// partitions, who holds and who leads what, brokers and their disks, producer ids
// and named producers.
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
//
// [Raft] feeds it in a cluster: every broker applies the commands that hashicorp/raft has
// committed, and any broker may propose. Raft's log, votes and snapshots are in internal
// partitions of our log, so they share the journal's group commit with the data, and the
// first error of the storage is final. Three things are done otherwise than the library
// would by itself:
//
//   - Heartbeats take no fast path past Raft's main loop, where they could make logs
//     diverge (its issue 695).
//   - A server's name is the UUID of its disk, and connections carry the name they are
//     meant for. So a broker with a wiped disk takes part in nothing under its old name,
//     whose votes and acknowledgements it has forgotten.
//   - Proposals carry a random id which the machine remembers for a while: one whose
//     answer was lost is proposed again and carried out once.
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
//	1 command     value: u8 kind, u8 version (2), then
//	    1 create topics       array of sized topic
//	    2 alter topic         uuid, u32 version seen, sized config
//	    3 delete topics       array of uuid
//	    4 reserve producers   u32 how many
//	    5 init producer       string name, u64 id, u32 epoch (id 0: unconditionally)
//	    6 purge topics        array of uuid
//	    7 register broker     sized broker
//	    8 remove broker       u32 node
//	    9 set broker          u32 node, u8 draining
//	    10 set voter          member, u8 voter
//	    11 import state       bytes: a snapshot
//	    12 begin epochs       array of { uuid topic, u32 partition, u32 epoch seen, u8 1 if a set follows, set }
//	    13 elect leaders      array of { uuid topic, u32 partition, u32 epoch, member }
//	    255 request           16 bytes id, then another command: one that may be proposed twice
//	2 snapshot    value: i64 next index (commands below it are in the snapshot),
//	              u32 chunk, u32 chunks, then this chunk's part of
//	    u8 version (2), u64 index applied, u64 next producer id,
//	    array of named producer, ascending by name:
//	        sized { string name, u64 id, u32 epoch }
//	    array of sized topic, ascending by name,
//	    array of tombstone, ascending by UUID: uuid, u32 partitions,
//	    u32 next disk, array of sized broker, ascending by node,
//	    array of uuid of disks removed,
//	    array of request remembered, oldest first: 16 bytes id, bytes result
//
//	topic      uuid (16 bytes), string name, u32 version, sized config,
//	           array of partition { member leader, u32 epoch, set }
//	member     u32 node, u32 disk
//	set        u32 version, arrays of member: members, joining, learners
//	broker     member, uuid of the disk, string address for clients, string address for brokers,
//	           string rack, string version, u64 session, u8 draining, u8 voter
//	result     u8 version (2), array of error, u64 producer id, u32 producer epoch, then nothing or a sized broker
//	error      u8 0 | u8 1, u16 code, string message, u32 retry after ms | u8 2 (changed meanwhile), string context
//	config     u32 partitions, u8 partitioner, array of bytes splits, u32 virtual nodes,
//	           u16 replication factor, u8 fsync, u64 fsync interval ms, u64 retention ms,
//	           u64 retention bytes, u8 cleanup, u32 segment bytes, u64 tombstone ms,
//	           u64 dedup window ms, u32 max batch bytes, u8 ordering
//
// Version 1 had neither brokers nor requests, and partitions were { u32 leader, u32
// epoch, u32 replica-set version, array of u32 replica }; all disks were number 1. It
// is read still.
//
// The partition of Raft's log has a batch of one record per entry, at the offset that is
// the entry's index; no key, and as value
//
//	u8 version (1), u8 type, u64 term, i64 time of the leader's append in ns (0: none),
//	bytes extensions, data
//
// Where a snapshot took the place of entries, batches of no records take up their offsets; the
// log begins behind the last such batch. Values of the partition: 1 current term (u64), 2
// term of the last vote (u64), 3 address of the candidate voted for.
//
// A record of the partition of Raft's snapshots has as key one byte, and as value the u64
// number of its snapshot, then
//
//	1 begin       u8 version of Raft's snapshots, u64 index, u64 term, u64 index of the configuration,
//	              array of server { u8 suffrage, string id, string address }
//	2 chunk       the next part of the machine's snapshot
//	3 end         u64 size, u32 CRC32C of all chunks
//
// It counts once its end is there; the newest two are kept.
//
// A snapshot of Local may be interrupted by commands and by a crash. It counts once all of
// its chunks are there, and only then is the log before its next index dropped.
package consensus
