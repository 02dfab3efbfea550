// Package dedup remembers the message ids of records, so that a record whose id
// was stored in its partition within the topic's window is not stored again.
//
// # View
//
// The log is the truth; what is here is a view of it, in Badger:
//
//	'i' topic(16) partition(4) generation(4) 0 id            -> offset(8) append time(8)
//	'i' topic(16) partition(4) generation(4) 1 SHA-256(id)   -> the same, for ids over 255 bytes
//	'p' topic(16) partition(4)                               -> record of the partition
//	'v'                                                      -> version of this layout
//
// Integers are big-endian. Ids expire by Badger's TTL; whether one is within the
// window is decided by its append time.
//
// Invariant: the record of a partition says up to which offset (position) the log
// has been applied, and is written in the same transaction as the ids below it.
// So a crash leaves the ids of a prefix of the log. A batch with more ids than fit a
// transaction is announced in the record before (partial).
//
// The directory can be deleted while the broker is stopped. A partition whose
// record is missing is rebuilt by walking the log from the start of the window.
//
// The log may lose records that the view knows: after a power failure, where
// fsync is not always. A view that remembers an id that the log lost would have the
// record's repeat acknowledged and dropped. So the record names append time and checksum of
// the last batch applied, and at the first use the batch before position must bear them;
// else the partition starts over in a new generation of keys, and the old ones expire.
// The same goes where that batch was deleted by retention.
//
// # One send at a time
//
// A send with message ids goes
//
//	Claim     take the partition's lock; look the ids up; remove duplicates from the batch
//	          append the batch to the replica (by the caller)
//	Finish    remember the new ids as pending, with their offsets; release the lock
//
// so of two concurrent sends of one id one sees the other. Pending ids are those
// that were appended and are not in the view yet: one goroutine brings them
// there once they are below the high watermark, and only then forgets them here.
// Batches whose records are all duplicates are appended too, without records: they
// use up their sequence numbers, and as a partition's appends complete in order
// their answer cannot overtake the first send's.
//
// # Bounds
//
// The number of pending ids is bounded; beyond it sends are answered OVERLOADED,
// and so are they while the partition's view is being rebuilt. Nothing is opened or
// started before the first send with a message id.
//
// The promise is the window, but not beyond the retention of the records: an
// id is usually remembered longer than its record is stored, but not when
// the view is rebuilt.
package dedup
