package dedup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Ids per transaction. Badger limits a transaction to 15 % of a memory table; an
// id with its key and value takes at most about 350 bytes of it.
const maxTransaction = 2_000

// openStore opens Badger in dir, anew if what is there cannot be read: it is a
// view. A marker beside the directory survives if opening kills the process, so
// that the next start does not fall into the same trap.
func openStore(dir string, logger *slog.Logger) (*badger.DB, error) {
	marker := dir + ".opening"
	if _, err := os.Stat(marker); err == nil {
		logger.Warn("the message-id index did not open last time; it is rebuilt", "dir", dir)
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("remove message-id index: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make message-id index: %w", err)
	}
	if err := os.WriteFile(marker, nil, 0o644); err != nil {
		return nil, fmt.Errorf("make message-id index: %w", err)
	}
	db, err := tryStore(dir, logger)
	if err != nil {
		logger.Warn("the message-id index cannot be read; it is rebuilt", "dir", dir, "error", err)
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("remove message-id index: %w", err)
		}
		if db, err = tryStore(dir, logger); err != nil {
			return nil, fmt.Errorf("open message-id index: %w", err)
		}
	}
	if err := os.Remove(marker); err != nil {
		return nil, errors.Join(fmt.Errorf("open message-id index: %w", err), db.Close())
	}
	return db, nil
}

func tryStore(dir string, logger *slog.Logger) (*badger.DB, error) {
	db, err := badger.Open(storeOptions(dir, logger))
	if err != nil {
		return nil, err
	}
	if err := checkLayout(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// checkLayout marks a new store and refuses one of another version.
func checkLayout(db *badger.DB) error {
	return db.Update(func(txn *badger.Txn) error {
		item, err := txn.Get(layoutKey)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return txn.Set(layoutKey, []byte{layout})
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			if len(v) != 1 || v[0] != layout {
				return fmt.Errorf("layout %v is not %d: %w", v, layout, errLayout)
			}
			return nil
		})
	})
}

// storeOptions keep Badger small: two memory tables of 8 MiB, no block cache
// (values are tiny, ids do not compress); indexes and bloom filters are mapped, not held.
// Commits are not synced: what a crash takes is walked from the log again.
func storeOptions(dir string, logger *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithLogger(badgerLog{logger}).
		WithSyncWrites(false).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithNumVersionsToKeep(1).
		WithMemTableSize(8 << 20).
		WithNumMemtables(2).
		WithBaseTableSize(4 << 20).
		WithBaseLevelSize(32 << 20).
		WithNumLevelZeroTables(4).
		WithNumLevelZeroTablesStall(12).
		WithNumCompactors(2).
		WithNumGoroutines(1).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithValueThreshold(1 << 10).
		WithValueLogFileSize(1 << 20)
}

// badgerLog passes on what Badger has to say; its own course of business is of
// no interest.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(format string, args ...any)   { l.log.Error(message(format, args)) }
func (l badgerLog) Warningf(format string, args ...any) { l.log.Warn(message(format, args)) }
func (l badgerLog) Infof(string, ...any)                {}
func (l badgerLog) Debugf(string, ...any)               {}

func message(format string, args []any) string {
	return "message-id index: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}

// loadPosition returns the record of a partition; ok is false if there is none.
func loadPosition(db *badger.DB, key []byte) (p position, ok bool, err error) {
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			p, err = parsePosition(v)
			ok = err == nil
			return err
		})
	})
	return p, ok, err
}

// find looks up an id. The time is not judged.
func find(txn *badger.Txn, key []byte) (p place, ok bool, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return place{}, false, nil
	}
	if err != nil {
		return place{}, false, err
	}
	err = item.Value(func(v []byte) error {
		p, err = parsePlace(v)
		return err
	})
	return p, err == nil, err
}
