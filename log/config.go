package log

import "fmt"

// SetConfig changes the partition's configuration. Going to fsync always syncs first what was appended so far, so that
// the promise holds for all of it when SetConfig returns; going away from it takes effect once the change is durable
// (until then appends still go through the journal). It fails only as appends do.
func (p *Partition) SetConfig(c Config) error {
	c = c.withDefaults()
	p.write.Lock()
	defer p.write.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	if c == p.config {
		return nil
	}
	always := c.Fsync == FsyncAlways
	if always && !p.journaled {
		if err := p.syncSegments(); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	change := encodeConfigEntry(configChange{end: p.end, config: c})
	var done Completion
	if !always && p.journaled {
		done = unjournal{p}
	}
	if err := p.note(entryConfig, change, done); err != nil {
		return fmt.Errorf("configure partition %s: %w", p.id, err)
	}
	p.config = c
	if always {
		p.journaled = true
	}
	return nil
}

// unjournal lets appends bypass the journal once the change of mode is durable: before that, recovery would not look
// for them in the segment.
type unjournal struct{ p *Partition }

// Complete implements Completion.
func (u unjournal) Complete(err error) {
	if err == nil {
		u.p.s.chores.add(chore{kind: choreUnjournal, p: u.p})
	}
}

// unjournalNow is the chore: it needs the write lock, for which a completion must not wait.
func (p *Partition) unjournalNow() {
	p.write.Lock()
	defer p.write.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.journaled = p.config.Fsync == FsyncAlways
	p.s.journal.touch(p)
}

// syncSegments makes all that was appended so far durable. The caller holds write.
func (p *Partition) syncSegments() error {
	p.mu.Lock()
	list := p.unsyncedSegments(nil)
	p.mu.Unlock()
	return p.s.syncSegments(list)
}
