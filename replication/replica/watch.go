package replica

// Watcher is called when the high watermark has passed an offset.
type Watcher interface {
	// Passed is called with the token of the watch, with no lock held, on a journal
	// goroutine or that of an append. It must not block.
	Passed(token int)
}

// Watch is one registration for a long poll, to be embedded in the request that waits.
// The zero value is ready. It must not be copied or used again while registered.
type Watch struct {
	watcher    Watcher
	token      int
	beyond     int64
	list       *watchList // the list it is in, nil if not registered
	prev, next *Watch
}

// Watch registers w: the watcher is called once, when the high watermark is greater
// than beyond, the role changed or the replica is closed. It returns false, and registers nothing, if
// that is so already.
func (r *Replica) Watch(w *Watch, beyond int64, watcher Watcher, token int) bool {
	r.mu.Lock()
	defer r.unlock()
	if r.closed || r.machine.HighWatermark() > beyond {
		return false
	}
	w.watcher, w.token, w.beyond = watcher, token, beyond
	r.watching.add(w)
	return true
}

// Unwatch withdraws w. It returns true if the watcher will not be called, and false if
// it was called, is being called, or w was not registered.
func (r *Replica) Unwatch(w *Watch) bool {
	r.mu.Lock()
	defer r.unlock()
	if w.list == nil {
		return false
	}
	w.list.remove(w)
	return true
}

// watchList is a doubly linked list of watches.
type watchList struct{ first *Watch }

func (l *watchList) add(w *Watch) {
	w.list, w.prev, w.next = l, nil, l.first
	if l.first != nil {
		l.first.prev = w
	}
	l.first = w
}

func (l *watchList) remove(w *Watch) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	w.list, w.prev, w.next = nil, nil, nil
}

// moveBelow moves the watches that wait for an offset below hw.
func (l *watchList) moveBelow(hw int64, to *watchList) {
	for w := l.first; w != nil; {
		next := w.next
		if w.beyond < hw {
			l.remove(w)
			to.add(w)
		}
		w = next
	}
}

// takeAll moves all watches of from into l.
func (l *watchList) takeAll(from *watchList) {
	for w := from.first; w != nil; w = from.first {
		from.remove(w)
		l.add(w)
	}
}
