// Package replication is the machines by which the replicas of one partition agree:
// pure, so no clock, goroutine, socket or file. Events go in, and what changed comes
// out. The driver in replication/replica persists first and tells the machine then.
//
//	Replica     one replica: the fence it adopted, its vote, its role
//	  Leader    appends, takes in fetches, commits
//	  Follower  asks for what it lacks, truncates what differs, reports what is fsynced
//	Election    counts votes and names the winner; the controller's
//
// # Epochs
//
// The controller begins an epoch e, and asks for votes: [Replica.Fence] adopts e, is
// persisted, and ends whatever the replica did in older epochs. The vote is (epoch of
// the last record, end of the log). From a majority the greatest is elected, and told so
// by [Replica.Assign]. It appends an epoch-start record and serves once that is committed.
//
// A replica leads an epoch only if it adopted it in this process life: before a restart
// it may have led it, and records that it has lost since may be on others.
//
// # Commit rule
//
// A leader of epoch e knows, per member of the replica set, up to which offset that
// member reported its log fsynced, in epoch e. Offset o is committed once a majority
// reported more than o and the record at o was written in epoch e; everything before o
// is committed with it. Counting replicas for records of older epochs would lose them
// (Raft, Ongaro and Ousterhout 2014, section 5.4.2, figure 8). While the replica set
// changes a majority of both the old and the new set is needed (section 6). Learners
// copy the log and count for nothing.
//
// # Following
//
// A fetch names the end of the follower's log and the epoch of its last record. Two
// records of the same epoch and offset are the same record, and so are all before them,
// for one leader wrote the epoch. So the leader sees whether the logs agree; if not it
// names its greatest epoch up to that one and where it ends, and the follower truncates
// to where both have it. That finds the longest common beginning in as many steps as
// there are epochs that differ. A report counts only where the logs agree.
//
// Answers may come late, twice or out of order within one process life of the follower.
// What survives a restart of it must not reach it: a session dies with its processes.
//
// # Invariants
//
//	start of the log <= high watermark <= end; durable <= end
//	the fence, the high watermark and every member's reported offset never fall
//	nothing below the own high watermark is truncated
//	one leader per epoch, of one process life
//	reports of another epoch count for nothing
//	a fenced leader appends nothing and commits nothing more
//
// What contradicts them is ErrInvariant: the process must stop. Those that no replica
// sees by itself are checked by internal/sim, which also shows that each rule is needed.
package replication
