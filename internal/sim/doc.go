// Package sim runs the machines of package replication on one thread, under a clock, a
// network and disks that are simulated, and checks at every step that nothing which
// must hold is broken.
//
// A seed decides everything: how many brokers there are, which faults strike and how
// often, every delay, every loss, what a crash leaves on a disk. The same seed gives the
// same run, down to the order of events; [Result.Trace] is a hash of it.
//
// # What is simulated
//
//	network   delay, loss, duplication, reordering; partitions, symmetric and one-way
//	disks     writes are in order (a journal); a crash keeps what was synced and any
//	          beginning of the rest; damage in the middle; a wipe is a new disk
//	brokers   crash, power cut of all, pause; replay of old metadata after a restart
//	metadata  a list of decisions, taken by compare-and-set; brokers learn late
//	control   two controllers that may both believe to be the one; changes of the
//	          replica set, leaders moved for no reason
//	clients   idempotent producers with acks leader, quorum, all, who retry; questions
//	          for the end of the partition
//
// A run has two parts. In the first one anything may happen, and only safety is asked
// for. Then everything heals, and everything must complete: the partition is led, every
// request is answered, every replica is caught up.
//
// # What is checked
//
//	at most one leader per epoch, of one process life
//	an elected leader holds every committed record
//	what is committed never changes; all high watermarks agree on it
//	committed means fsynced on a majority of every set that counts
//	the high watermark of a replica and its fence never fall
//	acknowledged with quorum or all means committed; with all, fsynced everywhere
//	a producer's records are there once, and in order
//	the end as answered is beyond all that was acknowledged when it was asked for
//
// The teeth: every [Rule] switches one rule of the protocol off, and a test asserts that
// the simulation notices.
package sim
