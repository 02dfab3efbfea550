package log

import (
	"sync"
	"time"
)

// maintain is the background loop of compaction and scrub, each on a goroutine of its own: a scrub takes hours.
func (s *Store) maintain() {
	var both sync.WaitGroup
	both.Go(func() {
		s.every(s.options.CompactInterval, func() {
			if err := s.Compact(false); err != nil && s.Err() == nil {
				s.log.Warn("compaction failed; it is tried again", "err", err)
			}
		})
	})
	both.Go(func() {
		s.every(s.options.ScrubInterval, func() {
			if err := s.Scrub(s.scrubRate()); err != nil && s.Err() == nil {
				s.log.Warn("scrub failed; it is tried again", "err", err)
			}
		})
	})
	both.Wait()
}

// every runs work at most once per interval, which begins anew when the work does; 0 means never.
func (s *Store) every(interval time.Duration, work func()) {
	if interval <= 0 {
		return
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-timer.C:
		}
		timer.Reset(interval)
		if s.Err() == nil {
			work()
		}
	}
}

// newThrottle is a throttle that the store's end interrupts.
func (s *Store) newThrottle(rate int64) throttle {
	return throttle{rate: rate, rest: func(d time.Duration) {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-s.stop:
		}
	}}
}

func (s *Store) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}
