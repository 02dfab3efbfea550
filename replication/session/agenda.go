package session

import (
	"sync"
	"time"
)

// agenda is what a session's writer has to look at: items that moved, each once.
type agenda[T any] struct {
	wake  chan struct{} // holds a token while there may be something to do
	delay time.Duration

	mu     sync.Mutex
	soon   []*item[T]
	late   []*item[T] // may wait; some may have become urgent meanwhile
	timer  *time.Timer
	closed bool
}

// item is a place on the agenda. Its state is guarded by the agenda.
type item[T any] struct {
	owner *T
	state itemState
}

type itemState uint8

const (
	absent itemState = iota
	waiting
	urgent
)

func newAgenda[T any](delay time.Duration) *agenda[T] {
	a := &agenda[T]{wake: make(chan struct{}, 1), delay: delay}
	a.timer = time.AfterFunc(time.Hour, a.ring)
	a.timer.Stop()
	return a
}

// add puts an item on the agenda. It does not block.
func (a *agenda[T]) add(it *item[T], now bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed || it.state == urgent || it.state == waiting && !now:
	case now:
		it.state = urgent
		if a.soon = append(a.soon, it); len(a.soon) == 1 {
			a.ring()
		}
	default:
		it.state = waiting
		if a.late = append(a.late, it); len(a.late) == 1 {
			a.timer.Reset(a.delay)
		}
	}
}

// ring wakes the writer.
func (a *agenda[T]) ring() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take appends everything on the agenda to list.
func (a *agenda[T]) take(list []*T) []*T {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.late) > 0 {
		a.timer.Stop()
	}
	for _, it := range a.soon {
		it.state = absent
		list = append(list, it.owner)
	}
	for _, it := range a.late {
		if it.state == waiting {
			it.state = absent
			list = append(list, it.owner)
		}
	}
	clear(a.soon)
	clear(a.late)
	a.soon, a.late = a.soon[:0], a.late[:0]
	return list
}

func (a *agenda[T]) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.timer.Stop()
	a.soon, a.late = nil, nil
}
