package sim

// event is something due at a time.
type event struct {
	at    int64 // virtual microseconds
	order uint32
	kind  eventKind
	who   uint8  // broker, controller or client
	life  uint32 // of the broker: an event of an earlier life is void
	arg   int32  // message, index into the metadata, attempt, or number of writes synced
}

type eventKind uint8

const (
	onMessage eventKind = iota + 1
	onSync
	onTick
	onApply
	onControl
	onClient
	onRestart
	onFault
	onDoom
	onHeal
	onLook
	onDecide
	onBroken
)

// queue is a binary heap by time, and by order of insertion at the same time.
type queue struct {
	heap  []event
	order uint32
}

func (q *queue) push(e event) {
	q.order++
	e.order = q.order
	q.heap = append(q.heap, e)
	for i := len(q.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.heap[i].before(&q.heap[up]) {
			return
		}
		q.heap[i], q.heap[up] = q.heap[up], q.heap[i]
		i = up
	}
}

func (q *queue) pop() (event, bool) {
	n := len(q.heap) - 1
	if n < 0 {
		return event{}, false
	}
	e := q.heap[0]
	q.heap[0] = q.heap[n]
	q.heap = q.heap[:n]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < n; c++ {
			if q.heap[c].before(&q.heap[least]) {
				least = c
			}
		}
		if least == i {
			return e, true
		}
		q.heap[i], q.heap[least] = q.heap[least], q.heap[i]
		i = least
	}
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.order < o.order
}
