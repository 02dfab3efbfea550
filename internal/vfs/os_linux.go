package vfs

import "golang.org/x/sys/unix"

const (
	directFlags     = unix.O_DIRECT | unix.O_DSYNC
	errNotSupported = unix.EOPNOTSUPP
)

func fdatasync(fd int) error { return unix.Fdatasync(fd) }

func syncFS(fd int) error { return unix.Syncfs(fd) }

func startWriteback(fd int, off, n int64) error {
	return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE)
}

func fallocate(fd int, off, n int64) error { return unix.Fallocate(fd, 0, off, n) }

func statFS(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	for {
		if err = unix.Statfs(dir, &st); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, 0, err
	}
	block := uint64(st.Bsize)
	return st.Bavail * block, st.Blocks * block, nil
}

func flock(fd int, exclusive bool) error {
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	return unix.Flock(fd, how|unix.LOCK_NB)
}
