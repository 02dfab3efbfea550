package consensus

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/record"
)

// RaftSnapshotsID names the internal partition that holds Raft's snapshots.
var RaftSnapshotsID = log.ID{Topic: [16]byte{'_', '_', 'r', 'a', 'f', 't', '-', 's', 'n', 'a', 'p', 's'}}

// Internal says whether a topic is not one of the metadata but holds it.
func Internal(topic [16]byte) bool {
	return topic == LogID.Topic || topic == RaftLogID.Topic || topic == RaftSnapshotsID.Topic
}

// The keys of the snapshot partition's records; the formats are in the package
// documentation.
const (
	snapshotBegin = 1
	snapshotChunk = 2
	snapshotEnd   = 3

	snapshotsKept = 2
	// maxSnapshotBytes bounds what is read into memory: the metadata of millions of
	// partitions.
	maxSnapshotBytes = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// raftSnapshots keeps Raft's snapshots in a partition, in chunks. A snapshot counts once
// its end is durable; then all but the newest two are dropped. It implements
// raft.SnapshotStore.
type raftSnapshots struct {
	p      *log.Partition
	now    func() time.Time
	die    func(error)
	logger *slog.Logger

	mu      sync.Mutex
	builder *record.Builder
	number  uint64 // of the last snapshot
	list    []*storedSnapshot
}

// storedSnapshot is a snapshot on disk, or on its way there.
type storedSnapshot struct {
	meta   raft.SnapshotMeta
	number uint64
	from   int64   // offset of its beginning
	chunks []int64 // offsets
	crc    uint32
	done   bool
}

func openRaftSnapshots(store *log.Store, now func() time.Time, logger *slog.Logger, die func(error)) (*raftSnapshots, error) {
	p, err := internalPartition(store, RaftSnapshotsID)
	if err != nil {
		return nil, err
	}
	s := &raftSnapshots{p: p, now: now, die: die, logger: logger, builder: record.NewBuilder(chunkBytes + 1<<10)}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open Raft snapshots: %w", err)
	}
	return s, nil
}

// load finds the snapshots that are whole and can be read.
func (s *raftSnapshots) load() error {
	for from := s.p.Start(); ; {
		err := s.p.Batches(from, s.loadBatch)
		var corrupt *log.CorruptError
		if errors.As(err, &corrupt) {
			s.logger.Error("part of a metadata snapshot is damaged; another one is used", "error", err)
			from = corrupt.To
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	whole := s.list[:0]
	for _, x := range s.list {
		if !x.done {
			continue
		}
		if _, err := s.read(x); err != nil {
			s.logger.Error("a metadata snapshot is damaged; another one is used", "snapshot", x.meta.ID, "error", err)
			continue
		}
		whole = append(whole, x)
	}
	s.list = whole
	return nil
}

func (s *raftSnapshots) loadBatch(b record.Batch) error {
	key, d, err := snapshotRecord(b)
	if err != nil {
		return err
	}
	number := d.u64()
	s.number = max(s.number, number)
	i := slices.IndexFunc(s.list, func(x *storedSnapshot) bool { return x.number == number })
	switch {
	case d.err != nil:
	case key == snapshotBegin:
		x := &storedSnapshot{number: number, from: b.BaseOffset()}
		x.meta = d.snapshotMeta()
		x.meta.ID = snapshotID(&x.meta, number)
		s.list = append(s.list, x)
	case i < 0: // its beginning was dropped, or is damaged
	case key == snapshotChunk:
		s.list[i].chunks = append(s.list[i].chunks, b.BaseOffset())
	case key == snapshotEnd:
		s.list[i].meta.Size, s.list[i].crc = int64(d.u64()), d.u32()
		s.list[i].done = d.err == nil
	}
	if d.err != nil {
		return fmt.Errorf("snapshot record at offset %d: %w", b.BaseOffset(), d.err)
	}
	return nil
}

func snapshotRecord(b record.Batch) (key byte, d *decoder, err error) {
	var reader record.Reader
	var dec record.Decompressor
	if err := reader.Reset(b, &dec, record.DefaultLimits()); err != nil {
		return 0, nil, err
	}
	var r record.Record
	if ok, err := reader.Next(&r); err != nil {
		return 0, nil, err
	} else if !ok || len(r.Key) != 1 || b.LastOffsetDelta() != 0 {
		return 0, nil, fmt.Errorf("%w: batch at offset %d is no part of a snapshot", errMalformed, b.BaseOffset())
	}
	return r.Key[0], &decoder{b: r.Value}, nil
}

func snapshotID(m *raft.SnapshotMeta, number uint64) string {
	return fmt.Sprintf("%d-%d-%d", m.Term, m.Index, number)
}

func appendSnapshotMeta(dst []byte, m *raft.SnapshotMeta) []byte {
	dst = append(dst, byte(m.Version))
	dst = le.AppendUint64(dst, m.Index)
	dst = le.AppendUint64(dst, m.Term)
	dst = le.AppendUint64(dst, m.ConfigurationIndex)
	dst = appendCount(dst, len(m.Configuration.Servers))
	for _, server := range m.Configuration.Servers {
		dst = append(dst, byte(server.Suffrage))
		dst = appendBytes(dst, string(server.ID))
		dst = appendBytes(dst, string(server.Address))
	}
	return dst
}

func (d *decoder) snapshotMeta() (m raft.SnapshotMeta) {
	m.Version = raft.SnapshotVersion(d.u8())
	m.Index, m.Term, m.ConfigurationIndex = d.u64(), d.u64(), d.u64()
	for range d.count(3) {
		m.Configuration.Servers = append(m.Configuration.Servers, raft.Server{
			Suffrage: raft.ServerSuffrage(d.u8()), ID: raft.ServerID(d.bytes()), Address: raft.ServerAddress(d.bytes()),
		})
	}
	return m
}

// newest returns the newest snapshot, nil if there is none.
func (s *raftSnapshots) newest() *raft.SnapshotMeta {
	list, _ := s.List()
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// coveredByAll is the index up to which all of the snapshots that are kept reach; 0 while
// there are fewer than there shall be.
func (s *raftSnapshots) coveredByAll() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.sorted()
	if len(list) < snapshotsKept {
		return 0
	}
	return list[snapshotsKept-1].meta.Index
}

// List implements raft.SnapshotStore.
func (s *raftSnapshots) List() (list []*raft.SnapshotMeta, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.sorted() {
		meta := x.meta
		list = append(list, &meta)
	}
	return list, nil
}

// sorted returns the whole snapshots, newest first. The caller holds mu.
func (s *raftSnapshots) sorted() (list []*storedSnapshot) {
	for _, x := range s.list {
		if x.done {
			list = append(list, x)
		}
	}
	slices.SortFunc(list, func(a, b *storedSnapshot) int {
		return -cmp.Or(cmp.Compare(a.meta.Index, b.meta.Index), cmp.Compare(a.meta.Term, b.meta.Term), cmp.Compare(a.number, b.number))
	})
	return list
}

// Open implements raft.SnapshotStore.
func (s *raftSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	i := slices.IndexFunc(s.list, func(x *storedSnapshot) bool { return x.done && x.meta.ID == id })
	var x storedSnapshot
	if i >= 0 {
		x = *s.list[i]
	}
	s.mu.Unlock()
	if i < 0 {
		return nil, nil, fmt.Errorf("metadata snapshot %s is not there", id)
	}
	data, err := s.read(&x)
	if err != nil {
		return nil, nil, fmt.Errorf("metadata snapshot %s: %w", id, err)
	}
	return &x.meta, io.NopCloser(bytes.NewReader(data)), nil
}

// read returns a snapshot's data, checked.
func (s *raftSnapshots) read(x *storedSnapshot) ([]byte, error) {
	if x.meta.Size < 0 || x.meta.Size > maxSnapshotBytes {
		return nil, fmt.Errorf("%w: snapshot of %d bytes", errMalformed, x.meta.Size)
	}
	var data []byte
	for _, offset := range x.chunks {
		c, err := s.p.Read(offset, offset+1, 1, true)
		if err != nil {
			return nil, err
		}
		b, err := c.AppendTo(nil)
		c.Release()
		if err != nil {
			return nil, err
		}
		batch, _, err := record.Parse(b, record.DefaultLimits())
		if err != nil {
			return nil, err
		}
		key, d, err := snapshotRecord(batch)
		if err != nil {
			return nil, err
		}
		if d.u64() != x.number || key != snapshotChunk {
			return nil, fmt.Errorf("%w: offset %d is no chunk of it", errMalformed, offset)
		}
		if data = append(data, d.b...); int64(len(data)) > x.meta.Size {
			break
		}
	}
	if int64(len(data)) != x.meta.Size || crc32.Checksum(data, castagnoli) != x.crc {
		return nil, fmt.Errorf("%w: %d bytes that differ from the %d written", errMalformed, len(data), x.meta.Size)
	}
	return data, nil
}

// Create implements raft.SnapshotStore.
func (s *raftSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	x := &storedSnapshot{number: s.number, meta: raft.SnapshotMeta{
		Version: version, Index: index, Term: term, Configuration: configuration.Clone(), ConfigurationIndex: configurationIndex,
	}}
	x.meta.ID = snapshotID(&x.meta, x.number)
	offset, err := s.append(snapshotBegin, x.number, appendSnapshotMeta(nil, &x.meta))
	if err != nil {
		return nil, err
	}
	x.from = offset
	s.list = append(s.list, x)
	return &snapshotSink{s: s, x: x}, nil
}

// append appends a record and waits until it is durable. The caller holds mu.
func (s *raftSnapshots) append(key byte, number uint64, data []byte) (int64, error) {
	now := max(s.now().UnixNano(), s.p.LastAppendTime())
	s.builder.Reset()
	s.builder.Append(now/1e6, []byte{key}, append(le.AppendUint64(nil, number), data...), nil)
	b, err := s.builder.Build(nil, record.CodecNone, 0, 0, 0)
	if err != nil {
		return 0, err
	}
	offset := s.p.End()
	b.Stamp(offset, 1, now)
	if err := appendAndWait(s.p, b); err != nil {
		err = fmt.Errorf("store metadata snapshot: %w", err)
		if !errors.Is(err, log.ErrStorageFull) && !errors.Is(err, log.ErrClosed) {
			s.die(err)
		}
		return 0, err
	}
	return offset, nil
}

// drop drops what is older than the snapshots kept. The caller holds mu.
func (s *raftSnapshots) drop() {
	old := s.sorted()
	old = old[min(len(old), snapshotsKept):]
	s.list = slices.DeleteFunc(s.list, func(x *storedSnapshot) bool { return slices.Contains(old, x) })
	start := s.p.End()
	for _, x := range s.list {
		start = min(start, x.from)
	}
	if err := s.p.AdvanceStart(start, nil); err != nil {
		s.logger.Warn("old metadata snapshots were not removed", "error", err)
	}
}

// snapshotSink is a snapshot being written. It implements raft.SnapshotSink.
type snapshotSink struct {
	s     *raftSnapshots
	x     *storedSnapshot
	buf   []byte
	ended bool
}

// ID implements raft.SnapshotSink.
func (k *snapshotSink) ID() string { return k.x.meta.ID }

// Write implements raft.SnapshotSink.
func (k *snapshotSink) Write(b []byte) (int, error) {
	if k.x.meta.Size += int64(len(b)); k.x.meta.Size > maxSnapshotBytes {
		return 0, fmt.Errorf("metadata snapshot of more than %d bytes", maxSnapshotBytes)
	}
	k.x.crc = crc32.Update(k.x.crc, castagnoli, b)
	k.buf = append(k.buf, b...)
	for len(k.buf) >= chunkBytes {
		if err := k.flush(chunkBytes); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func (k *snapshotSink) flush(n int) error {
	if n == 0 {
		return nil
	}
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	offset, err := k.s.append(snapshotChunk, k.x.number, k.buf[:n])
	if err != nil {
		return err
	}
	k.x.chunks = append(k.x.chunks, offset)
	k.buf = append(k.buf[:0], k.buf[n:]...)
	return nil
}

// Close implements raft.SnapshotSink: from now on the snapshot counts.
func (k *snapshotSink) Close() error {
	if k.ended {
		return nil
	}
	k.ended = true
	err := k.flush(len(k.buf))
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	if err == nil {
		_, err = k.s.append(snapshotEnd, k.x.number, le.AppendUint32(le.AppendUint64(nil, uint64(k.x.meta.Size)), k.x.crc))
	}
	if err != nil {
		k.s.forget(k.x)
		return err
	}
	k.x.done = true
	k.s.drop()
	return nil
}

// Cancel implements raft.SnapshotSink.
func (k *snapshotSink) Cancel() error {
	if k.ended {
		return nil
	}
	k.ended = true
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.forget(k.x)
	return nil
}

// forget takes a snapshot off the list; its chunks go with the next one. The caller
// holds mu.
func (s *raftSnapshots) forget(x *storedSnapshot) {
	s.list = slices.DeleteFunc(s.list, func(other *storedSnapshot) bool { return other == x })
}
