//go:build unix && !linux

package vfs

import "golang.org/x/sys/unix"

const (
	directFlags     = 0
	errNotSupported = unix.EOPNOTSUPP
)

// fsync, not fdatasync: not every system has the latter.
func fdatasync(fd int) error { return unix.Fsync(fd) }

// There is no syncfs: sync(2) writes everything; it may only schedule on some systems, which is why the log does not
// rely on it alone outside Linux.
func syncFS(fd int) error {
	if err := unix.Sync(); err != nil {
		return err
	}
	return unix.Fsync(fd)
}

func startWriteback(int, int64, int64) error { return nil }

func fallocate(int, int64, int64) error { return errNotSupported }

func statFS(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	block := uint64(st.Bsize)
	return uint64(st.Bavail) * block, uint64(st.Blocks) * block, nil
}

func flock(fd int, exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	return unix.Flock(fd, how|unix.LOCK_NB)
}
