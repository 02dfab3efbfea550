package log

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("store is closed")
	// ErrStorageFailed is wrapped by every error after the first failed write or sync. It is final: the process should
	// stop, and recovery at the next start finds out what is on disk. What was not acknowledged may or may not be there.
	ErrStorageFailed = errors.New("storage failed; stop the process, check the disk, start again")
	// ErrStorageFull is returned by Append while the disk has less free space than the reserve. Reads, truncation,
	// deletes and values go on, and appends resume by themselves once there is space.
	ErrStorageFull = errors.New("storage full; free disk space or shorten retention")
	// ErrOutOfRange is returned for an offset below the log start or above the limit or end.
	ErrOutOfRange = errors.New("offset out of range")
	// ErrExists is returned by Create for a partition that is there already.
	ErrExists = errors.New("partition exists")
	// ErrUnknownPartition is returned for a partition that is not there, or no longer.
	ErrUnknownPartition = errors.New("unknown partition")
	// ErrTooLarge is returned by Append for a batch that cannot fit a journal file.
	ErrTooLarge = errors.New("append too large for the journal")
	// ErrLocked is returned by Open when another process has the directory open.
	ErrLocked = errors.New("data directory is in use by another broker")
	// ErrCorrupt is matched by every CorruptError, and by errors of Open that refuse a damaged directory.
	ErrCorrupt = errors.New("stored data damaged")
	// ErrVersion is returned by Open for files of another version of the format.
	ErrVersion = errors.New("file format of another version")
)

// CorruptError names a place in a segment whose bytes contradict their checksums or their order. It is never served.
type CorruptError struct {
	ID       ID
	File     string
	Position int64 // of the first bad byte range in the file
	From, To int64 // offsets [From, To) are unreadable; To is where reading can go on
	Reason   string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("partition %s: offsets [%d, %d) are damaged in %s at byte %d: %s; restore the file from a replica or a copy, or skip to offset %d",
		e.ID, e.From, e.To, e.File, e.Position, e.Reason, e.To)
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// damaged is an error of recovery: a file that must be right is not.
func damaged(file string, at int64, format string, args ...any) error {
	return fmt.Errorf("%s at byte %d: %s: %w", file, at, fmt.Sprintf(format, args...), ErrCorrupt)
}

// storageError wraps the first cause so that errors.Is finds both it and ErrStorageFailed.
type storageError struct{ cause error }

func (e *storageError) Error() string   { return fmt.Sprintf("%v: %v", ErrStorageFailed, e.cause) }
func (e *storageError) Unwrap() []error { return []error{ErrStorageFailed, e.cause} }
