// Package peer is what brokers of one cluster say to each other on the cluster port:
// the preamble of a connection, replication sessions, and remote calls. It uses the
// frames and primitives of package wire, with kinds and a version of its own;
// docs/protocol.md describes it in section "Cluster port".
//
// # Streams
//
// A connection begins with eight bytes that say what it carries:
//
//	+-----+-----+-----+-----+-------------+-----+-----+-----+
//	|  S  |  Q  |  T  |  C  | stream kind |  0  |  0  |  0  |
//	+-----+-----+-----+-----+-------------+-----+-----+-----+
//
// A Raft stream belongs to the consensus library from there on. The others are frames.
//
// # Replication session
//
// The follower opens it and speaks first; both sides then send at any time:
//
//	follower                                leader
//	  SessionHello          ------------->
//	                        <-------------  SessionWelcome
//	  Progress (seek)       ------------->
//	                        <-------------  Push (data), Push (data), ...
//	  Progress (durable)    ------------->
//
// A handle names a partition within a session; the entry that opens it carries the
// partition. A seek is a standing fetch: from then on the leader pushes whatever comes,
// without being asked again. Seeks of a handle are numbered upwards, each push repeats
// the number it serves, and the follower ignores pushes of an older one: they were on
// their way when it changed its mind.
//
// Flow control is by byte counts: each Progress says how many batch bytes of the whole
// session, and each entry how many of its seek, were taken in.
//
// # Bounds
//
// As in package wire nothing is allocated on the word of a peer. Progress and Push
// decode into a used receiver without allocating.
package peer
