package replica

// waiting is one append whose answer is due once end is below or at the high watermark.
type waiting struct {
	w         Waiter
	token     int
	end       int64
	result    Result
	journaled bool // the journal tells its fate by a completion of its own
}

// queue is a first-in first-out ring of waiting appends. Ends ascend, except for
// duplicates: one of those may wait for its elders though its end is passed already.
type queue struct {
	ring []waiting // length is 0 or a power of two
	head int
	n    int
}

// keptRing is the largest ring that is kept when it runs empty.
const keptRing = 1 << 10

func (q *queue) push(w waiting) {
	if q.n == len(q.ring) {
		bigger := make([]waiting, max(4, 2*len(q.ring)))
		for i := range q.n {
			bigger[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
		}
		q.ring, q.head = bigger, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = w
	q.n++
}

// first returns the oldest, nil if there is none.
func (q *queue) first() *waiting {
	if q.n == 0 {
		return nil
	}
	return &q.ring[q.head]
}

// pop removes the oldest.
func (q *queue) pop() waiting {
	w := q.ring[q.head]
	q.ring[q.head] = waiting{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	if q.n == 0 && len(q.ring) > keptRing {
		*q = queue{}
	}
	return w
}
