package log

import (
	"fmt"
	"path/filepath"
)

// createPerEntry bounds create entries to about 640 KiB, so that thousands of partitions are one commit group.
const createPerEntry = 8192

// waiter is a Completion to wait on.
type waiter chan error

func (w waiter) Complete(err error) { w <- err }

// Create adds partitions. They are durable when it returns; no file or directory is made before their first append.
// Any number takes one commit group or a few. It fails with ErrExists, and nothing is created, if one is there
// already or its deletion is not finished.
func (s *Store) Create(specs ...Spec) error {
	if err := s.Err(); err != nil {
		return err
	}
	if len(specs) == 0 {
		return nil
	}
	list, err := s.prepare(specs)
	if err != nil {
		return err
	}
	err = s.journalCreation(list)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range list {
		delete(s.creating, p.id)
		if err == nil {
			s.partitions[p.id] = p
		}
	}
	return err
}

// prepare numbers the partitions and lists them as being created, where a checkpoint finds them.
func (s *Store) prepare(specs []Spec) ([]*Partition, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := make(map[ID]struct{}, len(specs))
	for _, spec := range specs {
		_, twice := seen[spec.ID]
		if s.partitions[spec.ID] != nil || s.creating[spec.ID] != nil || twice {
			return nil, fmt.Errorf("create partition %s: %w", spec.ID, ErrExists)
		}
		if _, gone := s.deleted[spec.ID]; gone {
			return nil, fmt.Errorf("create partition %s: still being deleted: %w", spec.ID, ErrExists)
		}
		seen[spec.ID] = struct{}{}
	}
	list := make([]*Partition, len(specs))
	for i, spec := range specs {
		list[i] = newPartition(s, s.nextNumber, spec.ID, spec.Config)
		s.nextNumber++
		s.creating[spec.ID] = list[i]
	}
	return list, nil
}

func newPartition(s *Store, number uint32, id ID, c Config) *Partition {
	p := &Partition{
		s: s, id: id, number: number, config: c.withDefaults(), journaled: c.Fsync == FsyncAlways, snapshotFile: -1,
	}
	p.durableCap.Store(maxOffset)
	return p
}

func (s *Store) journalCreation(list []*Partition) error {
	perEntry := min(createPerEntry, s.journal.maxEntry()/createdSize-1)
	done := make(waiter, len(list)/perEntry+1)
	entries := 0
	var failed error
	for from := 0; from < len(list) && failed == nil; from += perEntry {
		part := list[from:min(from+perEntry, len(list))]
		data := make([]created, len(part))
		for i, p := range part {
			data[i] = created{p.number, p.id, p.config}
			p.mu.Lock()
			s.journal.touch(p)
			p.mu.Unlock()
		}
		if failed = s.journalWide(entryCreate, encodeCreate(data), done); failed == nil {
			entries++
		}
	}
	for range entries {
		if err := <-done; failed == nil {
			failed = err
		}
	}
	if failed != nil {
		return fmt.Errorf("create partitions: %w", failed)
	}
	return nil
}

// journalWide queues an entry about several partitions.
func (s *Store) journalWide(kind entryKind, data []byte, c Completion) error {
	if len(data) > s.journal.maxEntry() {
		return ErrTooLarge
	}
	_, err := s.journal.enqueue(ticket{kind: kind, crc: checksum(data), data: data, c: c})
	return err
}

// Delete removes partitions with all their data; unknown ones are ignored. The deletion is durable when it returns;
// directories go after the next checkpoint. Readers that hold chunks may finish with them.
func (s *Store) Delete(ids ...ID) error {
	if err := s.Err(); err != nil {
		return err
	}
	list, numbers := s.markDeleted(ids)
	if len(list) == 0 {
		return nil
	}
	done := make(waiter, 1)
	err := s.journalWide(entryDelete, encodeDelete(numbers), done)
	if err == nil {
		err = <-done
	}
	if err != nil {
		return fmt.Errorf("delete partitions: %w", err)
	}
	s.mu.Lock()
	for _, p := range list {
		delete(s.partitions, p.id)
		s.deleted[p.id] = struct{}{}
	}
	s.mu.Unlock()
	for _, p := range list {
		p.mu.Lock()
		segments := p.segments
		p.mu.Unlock()
		for _, g := range segments {
			s.files.drop(g)
		}
		s.checkpoints.removeLater(chore{kind: choreRemovePartition, id: p.id})
	}
	s.checkpoints.noteDeleted()
	s.checkpoints.want()
	return nil
}

// markDeleted closes the partitions to changes. A checkpoint treats them as deleted from here on.
func (s *Store) markDeleted(ids []ID) (list []*Partition, numbers []uint32) {
	for _, id := range ids {
		p, ok := s.Partition(id)
		if !ok {
			continue
		}
		p.write.Lock()
		p.mu.Lock()
		if !p.deleted {
			p.deleted = true
			list, numbers = append(list, p), append(numbers, p.number)
		}
		p.mu.Unlock()
		p.write.Unlock()
	}
	return list, numbers
}

// removePartition removes the directory of a deleted partition.
func (s *Store) removePartition(id ID) error {
	if err := s.fs.RemoveAll(s.partitionDir(id)); err != nil && !isNotExist(err) {
		return fmt.Errorf("remove partition %s: %w", id, err)
	}
	return nil
}

// forgetRemoved makes the removal of partitions' directories durable, removes those of topics that have no partition
// left, and forgets that the partitions existed.
func (s *Store) forgetRemoved(list []ID) error {
	synced := make(map[string]bool)
	for _, id := range list {
		topic := filepath.Dir(s.partitionDir(id))
		if synced[topic] {
			continue
		}
		synced[topic] = true
		dir := topic
		if s.fs.Remove(topic) == nil { // fails while other partitions are there
			dir = filepath.Dir(topic)
		}
		if err := s.fs.SyncDir(dir); err != nil && !isNotExist(err) { // it never had a file
			return fmt.Errorf("make the removal of partition %s durable: %w", id, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range list {
		delete(s.deleted, id)
	}
	return nil
}

func (s *Store) partitionDir(id ID) string {
	return filepath.Join(s.dir, "partitions", filepath.FromSlash(id.String()))
}
