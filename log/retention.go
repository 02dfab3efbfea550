package log

import "time"

// retain is the background loop of retention.
func (s *Store) retain() {
	ticker := time.NewTicker(s.options.RetentionInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			s.Retain()
		}
	}
}

// Retain applies the retention of all partitions now; the background loop does so each Options.RetentionInterval.
// Segments go as a whole: one goes by time when its last batch was appended longer ago than RetentionTime, by size when
// what remains without it still has RetentionBytes. Producers' timestamps play no part. The new starts are durable when
// it returns.
func (s *Store) Retain() {
	now := s.options.Now().UnixNano()
	list := s.all()
	done := make(waiter, len(list))
	waiting := 0
	for _, p := range list {
		if s.Err() != nil {
			break
		}
		queued, err := p.retain(now, done)
		if err != nil {
			s.log.Warn("retention failed", "partition", p.id, "err", err)
		}
		if queued {
			waiting++
		}
	}
	for range waiting {
		<-done // a failure is the store's, which says so
	}
}

// SetRetentionLimit registers the owner's bound: retention removes nothing at or above the offset that fn returns, such
// as a high watermark: what is not committed may yet have to be truncated, or be all that a majority has of it. fn is
// called with no lock of the log held; what it returned must stay removable for good. Without it there is no bound.
func (p *Partition) SetRetentionLimit(fn func() int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retainBelow = fn
}

// retain queues the advance of the start that retention asks for, if any.
func (p *Partition) retain(now int64, done Completion) (queued bool, err error) {
	p.mu.Lock()
	c, idle, bound := p.config, len(p.segments) == 0 || p.deleted, p.retainBelow
	p.mu.Unlock()
	if idle || c.Compact || c.RetentionTime <= 0 && c.RetentionBytes <= 0 {
		return false, nil
	}
	limit := int64(maxOffset)
	if bound != nil && !p.s.options.switches.retainAll {
		limit = bound()
	}
	p.write.Lock()
	defer p.write.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deleted || len(p.segments) == 0 {
		return false, nil
	}
	var total int64
	for _, g := range p.segments {
		total += g.size
	}
	gone := 0
	for i, g := range p.segments {
		expired := c.RetentionTime > 0 && g.lastTime < now-int64(c.RetentionTime)
		last := gone == len(p.segments)-1
		surplus := c.RetentionBytes > 0 && !last && total-g.size >= c.RetentionBytes
		if !expired && !surplus || g.size == 0 || p.viewOf(i).next > limit {
			break
		}
		total -= g.size
		gone++
	}
	if gone == 0 {
		return false, nil
	}
	start := p.end
	if gone < len(p.segments) {
		start = p.segments[gone].base
	} else {
		p.sealed = true // the last one has expired as well
	}
	err = p.advanceLocked(start, done)
	return err == nil, err
}
