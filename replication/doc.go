// Package replication is the machines by which the replicas of one partition agree:
// pure, so no clock, goroutine, socket or file. Events go in, and what changed comes
// out. The driver in replication/replica persists first and tells the machine then.
//
// Here today is the leader of an epoch, [Leader]: the commit rule, the high watermark
// and fencing. With one node it is a quorum of one and runs the same code.
//
// # Commit rule
//
// A leader of epoch e knows, per member of the replica set, up to which offset that
// member reported its log fsynced, in epoch e. Offset o is committed once a majority
// reported more than o and the record at o was written in epoch e; everything before o
// is committed with it. Counting replicas for records of older epochs would lose them
// (Raft, Ongaro and Ousterhout 2014, section 5.4.2, figure 8). While the replica set
// changes a majority of both the old and the new set is needed (section 6).
//
// # Invariants
//
//	start of the epoch <= end, high watermark <= end
//	the high watermark and every member's reported offset never fall
//	reports of another epoch count for nothing
//	a fenced leader appends nothing and commits nothing more
package replication
