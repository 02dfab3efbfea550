// Package replica drives one partition replica: it joins the partition's log, the
// state of its producers and the machine that says what is committed.
//
// # Owner
//
// A replica has one mutex and no goroutine. Whoever holds the mutex is the partition's
// owner loop for that moment, so an idle partition costs a few hundred bytes. No other
// lock is taken under it but the log's own; waiters and watchers are called after it
// was released.
//
// The journal must never wait for the owner, who may be writing to the page cache. Its
// completions therefore only leave a note (dirty) and try the mutex; whoever holds it
// looks at the note after letting go:
//
//	completion          holder
//	note := true        ... append ...
//	try mutex: busy     note := false; durable offset -> machine -> who is done
//	                    release; call who is done; note set again? try mutex, repeat
//
// # Append
//
//	producer check -> stamp offsets, epoch, time -> log.Append -> producer state, log end
//
// Producer state follows the log, never leads it: an append that the log refuses
// changes nothing. A duplicate is answered with the offset of the original once that
// is below the high watermark, which may still be ahead of it.
//
// The levels of acknowledgement differ by what an append waits for: the leader's own
// fsync, the high watermark, or the fsync of every voter. On a broker without a cluster
// (Solo) they are the same. In every case the answer also waits until the journal is done
// with the batches, whose memory is the caller's.
//
// # Roles
//
// In a cluster a replica waits to be told what it is. What the pure machine of package
// replication decides is carried out here, in this order:
//
//	Fence    the role ends -> fence to the journal -> durable -> vote
//	Assign   fence to the journal; leader: start record; follower: NextFetch once durable
//	Receive  verify -> log.Append -> producer state, machine (the code that a leader runs)
//	Truncate machine -> log -> producer state from the newest snapshot below, replayed
//
// The journal is in order. So a fence that is durable has everything before it durable: a
// vote tells of all that was ever reported, and a report in an epoch means that the epoch
// is remembered. Appends whose leader loses its role are answered with a *NotLeaderError
// unless they are acknowledged by then: their outcome is not known here.
//
// Sessions (package replication/session) are told what moved by [Notify], and move batches
// with ReadForFollower, Receive, NextFetch and Fetched.
package replica
