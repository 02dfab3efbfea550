package bench

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const directAlignment = 4096

// openProbe opens a filled file with O_DIRECT|O_DSYNC, or for write and fdatasync where the file system refuses that.
func openProbe(name string) (*probeFile, error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0)
	if err == nil {
		if _, err = f.WriteAt(alignedBuffer(directAlignment), 0); err == nil {
			return &probeFile{File: f, kind: "direct+dsync"}, nil
		}
		f.Close()
	}
	if f, err = os.OpenFile(name, os.O_RDWR, 0); err != nil {
		return nil, fmt.Errorf("open probe file: %w", err)
	}
	return &probeFile{File: f, kind: "fdatasync", sync: true}, nil
}

func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// startWriteback asks the kernel to begin writing a range; best effort.
func startWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// alignedBuffer is a buffer that O_DIRECT accepts.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+directAlignment)
	skip := (directAlignment - int(uintptr(unsafe.Pointer(&b[0]))%directAlignment)) % directAlignment
	return b[skip : skip+n : skip+n]
}

// dropCaches asks the kernel to forget the clean pages of a file, so that the next read comes from the disk.
func dropCaches(f *os.File) error {
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
