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
// On one node the levels of acknowledgement leader, quorum and all are the same: an
// append is answered when the high watermark passes it, which is when it has the
// durability of the topic's fsync mode.
package replica
