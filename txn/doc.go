// Package txn is the state machines of exactly-once: today the state of idempotent
// producers, one [Producers] per partition. It is pure: no clock, no goroutine, no
// file; batches and times go in, verdicts come out.
//
// # Rule
//
// A producer is a (producer id, epoch). Its batches in one partition carry sequence
// numbers: a batch takes last offset delta + 1 of them from its base sequence on,
// modulo 2^32, and the next batch must begin where it ended. So a retry is known by
// its sequence and gets the original's offset back, a gap is refused, and offsets
// follow the order of sending.
//
//	producer id 0                          accepted, not tracked
//	producer not known                     accepted at any sequence: its state may have aged out
//	epoch below the known one              ErrFenced
//	epoch above the known one              accepted at any sequence; the old epoch is fenced
//	sequence as expected                   accepted
//	one of the last batches (the window)   duplicate: the original offset is the answer
//	behind, but no batch of the window     ErrStaleSequence
//	ahead                                  ErrSequenceGap; accepted once after [Producers.Loosen]
//
// "Behind" and "ahead" are by the shorter way around the circle of 2^32. The window
// must be at least as large as the number of batches that a client keeps in flight
// per partition, else the retry of a stored batch cannot be answered; it is refused
// then, never stored twice.
//
// Because the first batch of an unknown producer, or of a new epoch, is accepted at any
// sequence, a client keeps one batch in flight per partition until the first one of its
// epoch is acknowledged there, and sends ahead only then. Otherwise the second could be
// stored after the first was refused for another reason, such as overload.
//
// # Snapshot
//
// Little-endian:
//
//	u32 magic "SQPS"   u8 version 1   u8 0   u16 0   u32 producers
//	per producer, ascending by id:
//	    u64 id   u32 epoch   u32 next sequence   i64 last append time (Unix ns)
//	    u32 twice the number of batches, plus 1 if a jump ahead is allowed (see Loosen)
//	    per batch, oldest first: u32 base sequence   u32 last delta   i64 base offset   i64 append time
//	u32 CRC32C over all before it
package txn
