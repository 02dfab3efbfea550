// Package faults runs real brokers through real faults and checks what clients saw.
//
// A run ([Run]) builds a small network of its own in network namespaces, starts a cluster of broker processes in it, puts
// load on a replicated topic with idempotent producers and following consumers, injects one kind of fault again and
// again, heals everything, and hands what was recorded ([History]) to the checkers ([Check]):
//
//   - lost: a record that was acknowledged is not in the topic, or not on one of the replicas
//   - duplicated: a record is in the topic twice
//   - reordered: records of one producer in one partition stand in another order than sent; or a record whose
//     acknowledgement came before another was sent stands behind it (real time)
//   - inconsistent: an offset holds, or was seen to hold, two different records; an acknowledged offset holds another
//   - skipped: a consumer went past a record; non-monotonic: it went back
//   - stuck: after healing a send stays unanswered, a partition has no leader, or a consumer does not reach the end
//
// Every checker has a test in which it fails. Nothing leaves the machine: the namespaces have no way out, and they
// vanish with the process.
package faults
