// Package controller decides who leads and who holds the partitions of a cluster. It
// is a pure machine: events come in with the time at which they happened, and Run says
// what to do about them. The driver in broker/controller runs it on the broker that
// leads Raft.
//
// # What it knows
//
// The metadata (see package consensus) is the only truth, and survives a change of the
// controller. Everything else is learned again by each new one within a session time-out:
// which brokers live, which leaders serve, who voted. What was begun is carried on from
// the metadata alone: an epoch without leader is fenced and elected, a joint replica set
// is resolved, learners are led to membership.
//
// # Brokers
//
//	unknown -> alive -> suspect -> dead
//
// A broker is alive while something is heard of its registered session: a heartbeat, an
// answered probe, its registration. A broken connection makes it suspect and is probed
// at once; refused means dead now, silence means dead after the session time-out. A
// broker that was restarted has another session, and what it led must be elected anew:
// it may have lost what it did not sync.
//
// # Elections (chapter 3.2 of the design)
//
//	BeginEpochs (Raft) -> Fence to every voter -> votes of a majority -> ElectLeaders (Raft)
//
// All partitions that need it go into one BeginEpochs, one Fence per broker, and one
// ElectLeaders with all that are decided. An epoch is begun only while a majority of
// the voters looks alive, and after a back-off that grows until a leader serves. Among
// the voters whose logs are equally far, and no shorter than any other's, the controller
// picks a wanted one, or who leads least.
//
// # Changes of the replica set
//
//	{old} + learners -> learners caught up -> {old, new} -> its leader serves -> {new}
//
// Each arrow is a new epoch, and is taken only while the leader of the current one
// serves: that is, its start record is committed. One change at a time per partition.
// A joint set that can elect nobody goes back to {old} if that can: whatever was committed
// by both is on a majority of it.
//
// # Invariants
//
//	Nothing is proposed but on the base of the epoch that was seen (the machine refuses the rest).
//	A leader is elected only from the votes of a majority, of both sets if joint, and never
//	from the vote of a process that has been restarted since.
//	A joint set is left for the new one only when its start record is committed.
//	The same events in the same order give the same effects.
package controller
