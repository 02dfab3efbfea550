package replica

// waiting is one append whose answer is due once end is reached by what its level of
// acknowledgement counts.
type waiting struct {
	w      Waiter
	token  int
	end    int64
	result Result
	number int64 // of the append among those in the journal, 0 if it is not: see Replica.handed
	fate   fate
}

// fate is what became of an append when leadership ended.
type fate uint8

const (
	open fate = iota
	done      // it was reached before
	lost      // nobody here will know
)

// held is memory of a follower's append that the journal reads.
type held struct {
	frame  Frame
	number int64
}

// ring is a first-in first-out queue. The zero value is empty.
type ring[T any] struct {
	items []T // length is 0 or a power of two
	head  int
	n     int
}

// keptRing is the largest ring that is kept when it runs empty.
const keptRing = 1 << 10

func (q *ring[T]) push(v T) {
	if q.n == len(q.items) {
		bigger := make([]T, max(4, 2*len(q.items)))
		for i := range q.n {
			bigger[i] = *q.at(i)
		}
		q.items, q.head = bigger, 0
	}
	q.items[(q.head+q.n)&(len(q.items)-1)] = v
	q.n++
}

// at returns the i-th oldest.
func (q *ring[T]) at(i int) *T { return &q.items[(q.head+i)&(len(q.items)-1)] }

// first returns the oldest, nil if there is none.
func (q *ring[T]) first() *T {
	if q.n == 0 {
		return nil
	}
	return &q.items[q.head]
}

// pop removes the oldest.
func (q *ring[T]) pop() T {
	v := q.items[q.head]
	var none T
	q.items[q.head] = none
	q.head = (q.head + 1) & (len(q.items) - 1)
	q.n--
	if q.n == 0 && len(q.items) > keptRing {
		*q = ring[T]{}
	}
	return v
}
