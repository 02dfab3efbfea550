// Package partitions says to which partition of a topic a key belongs, and which
// brokers hold the replicas of a partition. Client
// and broker use this same code; clients in other languages must reproduce it
// exactly, or records of one key end up in two partitions and lose their order.
// testdata/vectors.json has the answers to check against.
//
// Every partitioner is a pure function of the key's bytes and of the topic's
// configuration. H below is XXH64 with seed 0, as an unsigned 64-bit integer.
// An empty key is a key like any other; records without a key do not come here.
//
// # hash
//
// With n partitions the partition is the high word of the 128-bit product of H
// and n, that is
//
//	partition = floor(H(key) * n / 2^64)
//
// so partition i owns the i-th of n equal slices of the hash space. Changing n
// moves most keys.
//
// # range
//
// The topic has n-1 split points, strictly ascending when compared as unsigned
// bytes, a prefix before its extensions. The partition is the number of split
// points which are less than or equal to the key:
//
//	splits  g, p          keys  ..f | g..o | p..
//	                            0   | 1    | 2
//
// so a split point is the first key of the partition to its right, and the
// empty key is always in partition 0.
//
// # ring
//
// Consistent hashing. Partition p of n has v points on a ring of 2^64 places;
// its point number i (0 <= i < v) is at
//
//	H(p as u32 little-endian, i as u32 little-endian)    8 bytes hashed
//
// A key belongs to the first point at or after H(key), going up and from the
// top round to the lowest point. Where several points share a place, the lowest
// partition owns it. A new partition n adds only points of its own: a key stays
// where it was or moves to partition n, and about 1/(n+1) of the keys move.
//
// With v points per partition the share of a partition has a relative standard
// deviation of about 1/sqrt(v): 9 % at the default of 128.
//
// # Which brokers hold a partition
//
// [Placement] is consistent hashing with bounded loads (Mirrokni, Thorup and
// Zadimoghaddam 2016). Every broker has 128 points on a ring, at H(id, i) as above; a
// partition is at H(topic UUID, partition as u32). Its replicas go to the next brokers
// on the ring that hold fewer replicas than 1.1 times the mean. Racks come before the
// bound: no rack gets a second replica while another has none to hold, even if its only
// broker then holds more than the others. The first of the replicas that leads fewer
// partitions than the mean is the preferred leader.
//
// [Plan] says what moves when brokers come and go. It keeps what is well placed: what a
// leaving broker held spreads over the others, a joining one takes about 1/N from all.
// [BalanceLeaders] evens out who leads. All three depend on their arguments alone.
package partitions
