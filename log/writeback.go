package log

// writebackEach is how much of a segment is written before the kernel is asked to begin writing it back, so that a
// checkpoint finds little to sync.
const writebackEach = 4 << 20

// pushes starts early write-back. The call may wait for the device's queue, so appends do not make it themselves.
type pushes struct {
	s     *Store
	queue chan push
}

type push struct {
	h      *handle
	off, n int64
}

func (w *pushes) init(s *Store) {
	w.s, w.queue = s, make(chan push, 256)
}

// due reports whether enough was appended to the segment. The caller holds the partition's write lock.
func (s *Store) due(g *segment) bool { return g.size-g.writeback >= writebackEach }

// writeback queues what was appended to the segment since the last time. The caller holds the partition's write lock.
func (s *Store) writeback(g *segment) {
	h := s.files.cached(g)
	if h == nil {
		return
	}
	select {
	case s.pushes.queue <- push{h, g.writeback, g.size - g.writeback}:
		g.writeback = g.size
	default: // it is behind; the next append tries again
		h.release()
	}
}

func (w *pushes) run() {
	for {
		select {
		case p := <-w.queue:
			w.do(p)
		case <-w.s.stop:
			for {
				select {
				case p := <-w.queue:
					p.h.release()
				default:
					return
				}
			}
		}
	}
}

func (w *pushes) do(p push) {
	defer p.h.release()
	if err := p.h.f.StartWriteback(p.off, p.n); err != nil {
		w.s.log.Debug("early write-back failed", "file", p.h.f.Name(), "err", err)
	}
}
