// Package record is the encoding of batches and records: the same bytes travel
// from the producer over the wire to the disk and on to the consumer.
//
// # Batch
//
// A batch is a fixed header of 88 bytes, an optional extension and the records
// section. All integers are little-endian.
//
//	 byte 0        4     5     6        8                       16
//	      +--------+-----+-----+--------+-----------------------+
//	   0  | length | fmt | flg | zero   | base offset           |
//	      +--------+-----+-----+--------+-----------+-----------+
//	  16  | append time                 | epoch     | stamp CRC |
//	      +-----------+--------+--------+-----------+-----------+
//	  32  | payld CRC | attrs  | zero   | count     | last delta|
//	      +-----------+--------+--------+-----------+-----------+
//	  48  | base timestamp              | max timestamp         |
//	      +-----------------------------+-----------+-----------+
//	  64  | producer id                 | prod.epoch| base seq  |
//	      +-----------+-----------------+-----------+-----------+
//	  80  | rec. size | ext. size |
//	      +-----------+-----------+----------------+------------+
//	  88  | extension (ext. size bytes) | records section       |
//	      +-----------------------------+-----------------------+
//
//	 0 u32 length           of the whole batch, header included
//	 4 u8  format           1
//	 5 u8  stamp flags      bit 0: journal-synced hint; others zero
//	 6 u16 reserved         zero
//	 8 i64 base offset      stamped by the leader
//	16 i64 append time      stamped; Unix nanoseconds, never decreasing in a partition
//	24 u32 leader epoch     stamped
//	28 u32 stamp CRC32C     over bytes 0..27
//	32 u32 payload CRC32C   over bytes 36..length
//	36 u16 attributes       bits 0-2 codec (0 none, 1 s2, 2 zstd), bit 3 control,
//	                        bit 4 transactional, bit 5 carries message ids; others zero
//	38 u16 reserved         zero
//	40 u32 record count     records present
//	44 u32 last offset delta
//	48 i64 base timestamp   Unix milliseconds, the producer's clock
//	56 i64 max timestamp    Unix milliseconds, the producer's clock
//	64 u64 producer id      0: none
//	72 u32 producer epoch
//	76 u32 base sequence
//	80 u32 records size     bytes of the records section when not compressed
//	84 u32 extension size   bytes between header and records section, never compressed
//
// The leader stamps the bytes 5..31, under the stamp CRC. Everything from byte 36
// on is written by the producer under the payload CRC, which lives unchanged from
// producer to consumer; only compaction and message-id deduplication, which
// remove records, write it anew (see [Rewriter]).
//
// A batch consumes last offset delta + 1 offsets and as many sequence numbers,
// also where records were removed: the record count may then be smaller, even
// zero. Sequence numbers wrap modulo 2^32.
//
// # Record
//
// The records section, once decompressed, is the records one after the other in
// the layout of Kafka's version 2 batches. "varint" is a zigzag base-128 varint.
//
//	varint length           of what follows
//	i8     attributes       zero
//	varint timestamp delta  milliseconds after the batch's base timestamp, may be negative
//	varint offset delta     after the batch's base offset, strictly ascending
//	varint key length       -1: null
//	...    key
//	varint value length     -1: null
//	...    value
//	varint header count
//	       per header: varint key length, key, varint value length (-1: null), value
//
// A record header named [MessageIDHeader] is the record's message id, and a batch
// with at least one such record has attribute bit 5 set.
//
// # Control records
//
// A control batch carries records for the brokers, never for consumers. Their key
// is u16 version, u16 kind (see [ControlKind]); the value depends on the kind.
//
// # Trust
//
// [Parse] bounds everything by [Limits] before anything is allocated and checks the
// structure; [Batch.Verify] checks the CRCs; [Reader] checks every record.
// Decompression never writes more than the records size that the header declares,
// nor more than the limits allow, and fails when the data disagree with it.
// Nothing in this package starts goroutines or holds global state.
package record
