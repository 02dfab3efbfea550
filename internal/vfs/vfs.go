// Package vfs is the file system that the log stands on, as an interface, so that the log can be run on a disk that
// forgets. There are two of them:
//
//   - [OS]: the real one. On Linux it uses fdatasync, sync_file_range, syncfs, fallocate, O_DIRECT and O_DSYNC;
//     elsewhere the closest portable calls, which are slower but promise the same.
//   - Mem: a crashable one in memory for tests. It keeps what a disk would keep apart from what was only written,
//     can lose any part of the latter, tears writes at sector boundaries, fails or stops at the k-th operation, fills
//     up, and flips bits.
//
// # What is durable when
//
// The rules below are those of POSIX read strictly (and of ext4, xfs and btrfs in practice); Mem enforces them:
//
//   - File.WriteAt, Truncate, Preallocate: volatile until Sync of that file returns (or SyncFS). Until then any subset of the
//     written sectors (512 bytes) may survive a crash, in any order.
//   - A write through a file from OpenDirect that reported direct: durable when it returns. A crash during the call
//     leaves any subset of its sectors.
//   - A name (Create, Rename, Remove, RemoveAll, MkdirAll): volatile until SyncDir of the directory that holds it.
//     Sync of a new file does not persist its name. A rename is atomic: after a crash the old or the new state is seen.
//   - SyncFS makes everything written before the call durable, names included.
//
// After any error from Sync, SyncDir, SyncFS or a direct write nothing is known of the data it covered, and a retry
// that succeeds proves nothing (the kernel may have dropped the dirty pages). Callers must not retry.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"unsafe"
)

// DirectAlign is the alignment in bytes that files from OpenDirect want for offset, length and memory address.
const DirectAlign = 4096

// ErrLocked is returned by Lock and LockShared while another holder has the lock in a conflicting mode.
var ErrLocked = errors.New("locked by another process")

// FS is a file system. Names are slash or OS paths, absolute or relative to the process. Methods are safe for
// concurrent use. Errors satisfy errors.Is with fs.ErrNotExist, fs.ErrExist and the syscall errors they stem from.
type FS interface {
	// Create opens name for reading and writing, creating it or cutting it to zero bytes.
	Create(name string) (File, error)
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens an existing file for reading and writing.
	OpenReadWrite(name string) (File, error)
	// OpenDirect opens an existing file for reading and writing past the page cache, each write being durable when it
	// returns (O_DIRECT|O_DSYNC). Where the file system refuses that, it opens the file as OpenReadWrite does and
	// reports direct=false: writes then need Sync. Offsets, lengths and addresses must be multiples of DirectAlign
	// (see [AlignedBuffer]).
	OpenDirect(name string) (f File, direct bool, err error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes name and all below it; a missing name is no error.
	RemoveAll(name string) error
	// Rename moves a file or directory, replacing a file of the new name atomically.
	Rename(from, to string) error
	// MkdirAll makes a directory and its missing parents.
	MkdirAll(dir string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(dir string) ([]fs.DirEntry, error)
	// Stat describes a file or directory.
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
	// SyncFS makes everything written so far to the file system that holds dir durable.
	SyncFS(dir string) error
	// Free reports the bytes available to this process and the total size of the file system that holds dir.
	Free(dir string) (free, total uint64, err error)
	// Lock takes the exclusive advisory lock of name, creating the file if it is missing, and holds it until Close.
	// The lock ends with the process. It fails with ErrLocked at once instead of waiting.
	Lock(name string) (io.Closer, error)
	// LockShared is Lock for readers: any number of shared holders exclude an exclusive one. It does not create the file.
	LockShared(name string) (io.Closer, error)
}

// File is an open file. ReadAt and WriteAt are safe for concurrent use.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Name is the name the file was opened by.
	Name() string
	// Size is the current size in bytes.
	Size() (int64, error)
	// Sync makes the file's data and size durable (fdatasync). Its name is SyncDir's affair.
	Sync() error
	// StartWriteback asks the kernel to begin writing [off, off+n) back (sync_file_range). It promises nothing about
	// durability and exists so that a later Sync finds little to do.
	StartWriteback(off, n int64) error
	// Truncate sets the size; growth reads as zeros.
	Truncate(size int64) error
	// Preallocate reserves blocks for [off, off+n) and grows the file to at least off+n; the bytes read as zeros.
	// Where the file system cannot reserve it only grows the file.
	Preallocate(off, n int64) error
	// Fd is the descriptor for sendfile and the like; ok is false for files without one.
	Fd() (fd uintptr, ok bool)
	// OSFile is the real file under this one, or nil.
	OSFile() *os.File
}

// IsDiskFull reports whether err says that the file system or the quota has no room left.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// AlignedBuffer returns n zero bytes (a multiple of DirectAlign) whose address is a multiple of DirectAlign.
func AlignedBuffer(n int) []byte {
	n = (n + DirectAlign - 1) / DirectAlign * DirectAlign
	b := make([]byte, n+DirectAlign)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (DirectAlign - 1))
	return b[skip : skip+n : skip+n]
}
