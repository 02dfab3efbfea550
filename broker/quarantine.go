package broker

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
)

// A broker of a cluster whose directory cannot be opened is of more use without
// what is in it: the others have all that was acknowledged. The content is moved
// aside, never deleted, and the broker joins as a new disk, which it may only do
// where there is a cluster: it never founds one after that.

const quarantinePrefix = "quarantine-"

// damaged reports whether the directory is to be moved aside for an error of the
// start.
func (b *Broker) damaged(err error) bool {
	if !b.cfg.clustered() || !errors.Is(err, log.ErrCorrupt) {
		return false
	}
	for _, addr := range b.cfg.joinAddresses() {
		if addr != b.cfg.ClusterListen && addr != b.cfg.ClusterAdvertise {
			return true
		}
	}
	return false // nobody else has what is in it
}

func (b *Broker) fs() vfs.FS {
	if b.cfg.fs != nil {
		return b.cfg.fs
	}
	return vfs.OS()
}

// moveAside moves everything in the data directory into a directory below it.
func (b *Broker) moveAside(cause error) (err error) {
	dir, err := filepath.Abs(b.cfg.DataDir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	fsys := b.fs()
	lock, err := fsys.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return fmt.Errorf("move a damaged directory aside: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("move a damaged directory aside: %w", err)
	}
	to := filepath.Join(dir, quarantinePrefix+time.Now().UTC().Format("20060102-150405.000"))
	b.log.Error("the data directory is damaged: its content is moved aside, and this broker joins its cluster again as a new disk",
		"dir", dir, "moved to", to, "damage", cause)
	err = fsys.MkdirAll(to)
	for _, e := range entries {
		if err == nil && e.Name() != "lock" && !strings.HasPrefix(e.Name(), quarantinePrefix) {
			err = fsys.Rename(filepath.Join(dir, e.Name()), filepath.Join(to, e.Name()))
		}
	}
	if err == nil {
		err = errors.Join(fsys.SyncDir(to), fsys.SyncDir(dir))
	}
	if err != nil {
		return fmt.Errorf("move a damaged directory aside: %w", err)
	}
	return nil
}

// wasDamaged reports whether content of the directory was moved aside once.
func (b *Broker) wasDamaged() bool {
	dir, err := filepath.Abs(b.cfg.DataDir)
	if err != nil {
		return false
	}
	entries, err := b.fs().ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), quarantinePrefix) {
			return true
		}
	}
	return false
}
