package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// OS returns the operating system's file system.
func OS() FS { return osFS{} }

type osFS struct{}

type osFile struct{ *os.File }

func open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Create(name string) (File, error)        { return open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC) }
func (osFS) Open(name string) (File, error)          { return open(name, os.O_RDONLY) }
func (osFS) OpenReadWrite(name string) (File, error) { return open(name, os.O_RDWR) }

func (osFS) OpenDirect(name string) (File, bool, error) {
	if directFlags != 0 {
		f, err := open(name, os.O_RDWR|directFlags)
		if err == nil {
			return f, true, nil
		}
		if !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errNotSupported) {
			return nil, false, err
		}
	}
	f, err := open(name, os.O_RDWR)
	return f, false, err
}

func (osFS) Remove(name string) error                  { return os.Remove(name) }
func (osFS) RemoveAll(name string) error               { return os.RemoveAll(name) }
func (osFS) Rename(from, to string) error              { return os.Rename(from, to) }
func (osFS) MkdirAll(dir string) error                 { return os.MkdirAll(dir, 0o750) }
func (osFS) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }
func (osFS) Stat(name string) (fs.FileInfo, error)     { return os.Stat(name) }

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func (osFS) SyncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = withFd(d, "syncfs", syncFS)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

func (osFS) Free(dir string) (free, total uint64, err error) {
	free, total, err = statFS(dir)
	if err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return free, total, nil
}

func (osFS) Lock(name string) (io.Closer, error) {
	return lockFile(name, os.O_RDWR|os.O_CREATE, true)
}

func (osFS) LockShared(name string) (io.Closer, error) {
	return lockFile(name, os.O_RDONLY, false)
}

func lockFile(name string, flag int, exclusive bool) (io.Closer, error) {
	f, err := os.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	if err := withFd(f, "flock", func(fd int) error { return flock(fd, exclusive) }); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
		}
		return nil, err
	}
	return f, nil
}

// withFd runs a syscall on an open file. Unlike File.Fd it cannot race with Close.
func withFd(f *os.File, op string, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if callErr = call(int(fd)); !errors.Is(callErr, syscall.EINTR) {
				return
			}
		}
	})
	if err != nil {
		callErr = fs.ErrClosed // the only error of Control, in words that callers can test for
	}
	if callErr != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: callErr}
	}
	return nil
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error { return withFd(f.File, "fdatasync", fdatasync) }

func (f osFile) StartWriteback(off, n int64) error {
	return withFd(f.File, "sync_file_range", func(fd int) error { return startWriteback(fd, off, n) })
}

func (f osFile) Preallocate(off, n int64) error {
	err := withFd(f.File, "fallocate", func(fd int) error { return fallocate(fd, off, n) })
	if !errors.Is(err, errNotSupported) {
		return err
	}
	size, err := f.Size()
	if err != nil || size >= off+n {
		return err
	}
	return f.Truncate(off + n)
}

func (f osFile) Fd() (uintptr, bool) { return f.File.Fd(), true }
func (f osFile) OSFile() *os.File    { return f.File }
