package record

import (
	"errors"
	"fmt"
)

var (
	// ErrShort says that the bytes end before the batch does: more must be read.
	ErrShort = errors.New("batch incomplete")
	// ErrTooLarge says that a batch exceeds the limits.
	ErrTooLarge = errors.New("batch exceeds the limit")
	// ErrCorrupt is matched by every [CorruptError].
	ErrCorrupt = errors.New("batch corrupt")
)

// CorruptError says what in a batch contradicts its format or its checksums.
// errors.Is(err, ErrCorrupt) is true for it.
type CorruptError struct {
	BaseOffset int64 // as the header says; meaningless where the header is what is damaged
	Reason     string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("batch at offset %d corrupt: %s", e.BaseOffset, e.Reason)
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func corrupt(b Batch, format string, args ...any) error {
	return &CorruptError{BaseOffset: b.BaseOffset(), Reason: fmt.Sprintf(format, args...)}
}

func tooLarge(what string, size, limit uint64) error {
	return fmt.Errorf("%w: %s %d over %d", ErrTooLarge, what, size, limit)
}
