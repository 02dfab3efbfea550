package broker

import "github.com/sequitur-mq/sequitur/internal/vfs"

// UseFS has the broker keep its data on another file system, for tests of faults.
func (c *Config) UseFS(fs vfs.FS) { c.fs = fs }
