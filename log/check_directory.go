package log

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// ErrNoData is returned by Check for a directory that is empty or holds nothing of a broker. A start would make it a
// data directory.
var ErrNoData = errors.New("no data directory of a broker")

// isDataDirectory reports what keeps a directory from being checked: it is missing, cannot be read, is none, or holds
// nothing that a broker makes.
func (c *checker) isDataDirectory() error {
	entries, err := c.fs.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case lockFile, identityFile, checkpointFile, journalDir, partitionsDir:
			return nil
		}
	}
	if len(entries) == 0 {
		return fmt.Errorf("%w: it is empty", ErrNoData)
	}
	return fmt.Errorf("%w: it holds other files, such as %s", ErrNoData, entries[0].Name())
}

// checkIdentity reports whether it makes sense to go on.
func (c *checker) checkIdentity() (bool, error) {
	name := filepath.Join(c.dir, identityFile)
	b, err := readFile(c.fs, name)
	if isNotExist(err) {
		return false, c.checkWithoutIdentity(name)
	}
	if err != nil {
		return false, err
	}
	id, err := decodeIdentity(b)
	if err != nil {
		c.refused(Finding{File: name, Position: 0, What: err.Error(), Do: doRestoreAll})
		return false, nil
	}
	c.report.Disk = fmt.Sprintf("%x", id.Disk)
	return true, nil
}

// checkWithoutIdentity asks a start, on an overlay, what it makes of a directory without an identity: there is nothing
// yet, or there is something that belongs to nobody.
func (c *checker) checkWithoutIdentity(name string) error {
	s := newStore(c.dir, Options{FS: vfs.NewOverlay(c.fs), Logger: slog.New(slog.DiscardHandler), TailBytes: -1, switches: c.options.switches}.withDefaults())
	_, err := s.recoverOnly()
	defer s.closeRecovered()
	switch {
	case err == nil:
		c.find(Finding{Severity: SeverityNote, File: name, Position: -1, What: "there is no identity and no data yet: the first start did not get far", Do: doNothing})
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrVersion):
		c.refused(Finding{File: name, Position: -1, What: "the identity file is missing: " + err.Error(), Do: doRestoreAll})
	default:
		return err
	}
	return nil
}

// refused adds the damage over which a start fails.
func (c *checker) refused(f Finding) {
	f.Severity = SeverityDamage
	c.report.Refused = f.What
	c.find(f)
}

// readNames asks what the partitions are called.
func (c *checker) readNames(s *Store) {
	if c.options.Names == nil {
		return
	}
	name, err := c.options.Names(s)
	if err != nil {
		c.refused(Finding{File: filepath.Join(c.dir, partitionsDir), Position: -1, What: "the broker cannot start: " + err.Error(), Do: doRestoreAll})
		return
	}
	c.names = make(map[string]string, len(s.partitions))
	for id := range s.partitions {
		c.names[id.String()] = name(id)
	}
}
