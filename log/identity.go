package log

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// Identity says whose data a directory holds. The disk UUID is new for every new directory, so a wiped disk never
// passes for the one it replaces.
type Identity struct {
	Cluster [16]byte // zero: none yet
	Node    uint32
	Disk    [16]byte
}

const (
	identityMagic   = "SQTRID01"
	identityVersion = 1
	identitySize    = 8 + 4 + 16 + 4 + 16 + 4
)

func (id Identity) encode() []byte {
	b := append(make([]byte, 0, identitySize), identityMagic...)
	b = appendU32(b, identityVersion)
	b = append(b, id.Cluster[:]...)
	b = appendU32(b, id.Node)
	b = append(b, id.Disk[:]...)
	return appendU32(b, crc32.Checksum(b, castagnoli))
}

func decodeIdentity(b []byte) (id Identity, err error) {
	if len(b) < 12 || string(b[:8]) != identityMagic {
		return id, fmt.Errorf("not an identity file: %w", ErrCorrupt)
	}
	if len(b) != identitySize {
		return id, fmt.Errorf("identity file of %d bytes, want %d: %w", len(b), identitySize, ErrCorrupt)
	}
	if crc32.Checksum(b[:identitySize-4], castagnoli) != binary.LittleEndian.Uint32(b[identitySize-4:]) {
		return id, fmt.Errorf("identity file fails its checksum: %w", ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != identityVersion {
		return id, fmt.Errorf("identity version %d, this program reads %d: %w", v, identityVersion, ErrVersion)
	}
	d := decoder{b: b[12 : identitySize-4]}
	copy(id.Cluster[:], d.take(16))
	id.Node = d.u32()
	copy(id.Disk[:], d.take(16))
	return id, d.err
}

func newIdentity() Identity {
	id := Identity{Node: 1}
	rand.Read(id.Cluster[:])
	rand.Read(id.Disk[:])
	return id
}

// loadIdentity reads the identity file, or writes a new one into a directory that holds nothing else yet.
func loadIdentity(fsys vfs.FS, dir string) (id Identity, err error) {
	name := filepath.Join(dir, "identity")
	b, err := readFile(fsys, name)
	if err == nil {
		if id, err = decodeIdentity(b); err != nil {
			return id, fmt.Errorf("%s: %w", name, err)
		}
		return id, nil
	}
	if !isNotExist(err) {
		return id, fmt.Errorf("read identity: %w", err)
	}
	for _, leftover := range []string{"checkpoint", "partitions"} {
		if _, err := fsys.Stat(filepath.Join(dir, leftover)); err == nil {
			return id, fmt.Errorf("%s holds data but no identity file; restore the file or choose another directory: %w", dir, ErrCorrupt)
		}
	}
	id = newIdentity()
	if err := writeFileAtomic(fsys, name, id.encode()); err != nil {
		return id, fmt.Errorf("write identity: %w", err)
	}
	return id, nil
}

// readFile reads a whole file.
func readFile(fsys vfs.FS, name string) (b []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b = make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return b, nil
}

// writeFileAtomic replaces a file as a whole: after a crash it is the old one or the new one.
func writeFileAtomic(fsys vfs.FS, name string, data []byte) error {
	temp := name + ".tmp"
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}
