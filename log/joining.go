package log

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// PrepareIdentity returns the identity of a data directory before it is opened. A directory that has none becomes that
// of the node given, with a disk UUID of its own and of no cluster yet: SetCluster decides that. Open alone makes a
// directory that is a cluster by itself. A nil file system is the operating system's.
func PrepareIdentity(fsys vfs.FS, dir string, node uint32) (id Identity, err error) {
	s := newStore(dir, Options{FS: fsys}.withDefaults())
	if err := s.makeDirectory(); err != nil {
		return id, fmt.Errorf("prepare data directory %s: %w", dir, err)
	}
	lock, err := s.fs.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		if errors.Is(err, vfs.ErrLocked) {
			err = fmt.Errorf("%w; stop it or choose another directory", ErrLocked)
		}
		return id, fmt.Errorf("prepare data directory %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	name := filepath.Join(dir, identityFile)
	if _, err := s.fs.Stat(name); isNotExist(err) && !s.hasData() {
		id.Node = node
		rand.Read(id.Disk[:])
		if err := writeFileAtomic(s.fs, name, id.encode()); err != nil {
			return id, fmt.Errorf("write identity: %w", err)
		}
	}
	if id, err = loadIdentity(s.fs, dir); err != nil {
		return id, fmt.Errorf("data directory %s: %w", dir, err)
	}
	return id, nil
}

// hasData reports whether the directory holds something, so that a missing identity is damage.
func (s *Store) hasData() bool {
	for _, name := range []string{"checkpoint", "partitions"} {
		if _, err := s.fs.Stat(filepath.Join(s.dir, name)); err == nil {
			return true
		}
	}
	return false
}

// SetCluster says which cluster a directory of none belongs to. It is durable when it returns, and changes nothing if
// that is the cluster already. It is called at a start, before anything else asks for the store's identity.
func (s *Store) SetCluster(cluster [16]byte) error {
	id := s.identity
	switch {
	case id.Cluster == cluster:
		return nil
	case id.Cluster != [16]byte{}:
		return fmt.Errorf("%s belongs to cluster %x and cannot join cluster %x: use another directory", s.dir, id.Cluster, cluster)
	}
	id.Cluster = cluster
	if err := writeFileAtomic(s.fs, filepath.Join(s.dir, identityFile), id.encode()); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	s.identity.Cluster = cluster
	return nil
}
