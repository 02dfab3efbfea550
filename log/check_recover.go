package log

import "errors"

// recovered is what recovery found out, for the checker.
type recovered struct {
	*recovery
	checkpoint checkpoint
	files      []*journalFile // used ones, by lap
	end        journalEnd
	clean      bool
}

// lastFile is the journal file that was being written.
func (r *recovered) lastFile() string {
	if len(r.files) == 0 {
		return ""
	}
	return r.files[len(r.files)-1].name
}

// recoverOnly does all of Open's work but starting anything. The store's file system is an overlay, which takes the writes.
func (s *Store) recoverOnly() (*recovered, error) {
	s.recovering = true
	defer func() { s.recovering = false }()
	var err error
	r := &recovered{recovery: &recovery{s: s, byNumber: map[uint32]*Partition{}, changed: map[*Partition]struct{}{}, touched: map[*Partition]struct{}{}}}
	if s.identity, err = loadIdentity(s.fs, s.dir); err != nil {
		return r, err
	}
	s.journal = newJournal(s.dir, s.options, s.identity.Disk)
	if r.checkpoint, err = r.loadCheckpoint(); err != nil {
		return r, err
	}
	used, blank, err := s.journal.listJournal(s.options)
	if err != nil {
		return r, err
	}
	r.files, s.journal.live, s.journal.free = used, used, blank
	if r.end, err = r.replay(r.checkpoint, used); err != nil {
		return r, err
	}
	r.clean = r.checkpoint.clean && len(used) > 0 && used[len(used)-1].lap == r.checkpoint.position.lap
	return r, r.finish(r.clean)
}

// closeRecovered closes the files that recoverOnly opened.
func (s *Store) closeRecovered() error {
	s.files.close()
	if s.journal == nil {
		return nil
	}
	return errors.Join(s.journal.closeFiles())
}
