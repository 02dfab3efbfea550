// Package session carries replication between two brokers: one connection for all
// partitions that the one follows at the other. Frames and messages are those of package
// wire/peer.
//
// # Way of a batch
//
//	leader                                            follower
//	replica.Append --Moved--> agenda
//	  writer: ReadForFollower --- Push ---------------> reader: verify, replica.Receive
//	  (its own fsync goes on meanwhile)                         journal: fsync
//	  reader: replica.Fetched <------------- Progress - writer <--Moved-- replica
//	    high watermark, waiters
//
// No timer is on this way. A writer takes everything that waits for it when its turn
// comes, so frames grow with the load by themselves.
//
// # Agenda
//
// Nothing scans partitions. What moved puts itself on the agenda of its session, once
// however often it moves; the writer takes the list. High watermarks alone travel with
// the next data or a few milliseconds later.
//
// # Bounds
//
// The leader sends at most a window of bytes that the follower has not done with, per
// session and per partition; the follower has done with batches when its journal has. So
// the memory of received frames is bounded by the windows, and a partition that catches
// up cannot take the connection from the others.
//
// # Ends
//
// Each side closes the connection after a silence, and after anything malformed; the
// follower connects again, with back-off and jitter. Positions are asked for anew then:
// nothing of a session outlives it.
//
// # Locks
//
// A feed or part is locked before its replica. Callbacks of replicas touch agendas and
// atomics only.
package session
