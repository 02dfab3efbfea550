package broker

import (
	"path/filepath"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// Sizes of a disk that is large enough, and the shares of one that is not.
const (
	usualJournalFileBytes = 64 << 20
	leastJournalFileBytes = 4 << 20
	usualJournalBytes     = 256 << 20
	usualReserveBytes     = 256 << 20
	diskShare             = 8 // journal and reserve take an eighth of a disk each at most
)

// fitToDisk fills in the sizes that the configuration leaves open, so that a
// broker is of use on a disk of any size. Sizes that were asked for stay.
func (c *Config) fitToDisk(total uint64) {
	share := Bytes(min(total/diskShare, 1<<40))
	if c.JournalBytes == 0 {
		c.JournalBytes = min(usualJournalBytes, share)
	}
	if c.JournalFileBytes == 0 {
		c.JournalFileBytes = max(min(usualJournalFileBytes, c.JournalBytes/4), leastJournalFileBytes)
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = min(usualReserveBytes, share)
	}
}

// diskSize is the size of the file system that dir is on, or will be on.
func diskSize(fs vfs.FS, dir string) uint64 {
	if fs == nil {
		fs = vfs.OS()
	}
	for {
		if _, total, err := fs.Free(dir); err == nil {
			return total
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return 1 << 62
		}
		dir = parent
	}
}
