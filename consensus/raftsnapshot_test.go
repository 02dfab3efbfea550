package consensus

import (
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/internal/vfs"
	"github.com/sequitur-mq/sequitur/log"
)

var discard = slog.New(slog.DiscardHandler)

func withSnapshots(t testing.TB, fs vfs.FS, fn func(*raftSnapshots)) {
	t.Helper()
	store := openStore(t, fs)
	s, err := openRaftSnapshots(store, time.Now, discard, noDeath(t))
	require.NoError(t, err)
	fn(s)
	require.NoError(t, store.Close())
}

func snapshotData(index uint64, size int) []byte {
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(index, 0))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

func saveSnapshot(s *raftSnapshots, index uint64, size int) error {
	configuration := raft.Configuration{Servers: []raft.Server{{ID: "id", Address: "address"}, {Suffrage: raft.Nonvoter, ID: "other"}}}
	sink, err := s.Create(1, index, 3, configuration, index-1, nil)
	if err != nil {
		return err
	}
	for data := snapshotData(index, size); len(data) > 0; { // in pieces, as from the network
		n := min(len(data), 300_000)
		if _, err := sink.Write(data[:n]); err != nil {
			return errors.Join(err, sink.Cancel())
		}
		data = data[n:]
	}
	return sink.Close()
}

// requireSnapshot reads a snapshot back.
func requireSnapshot(t testing.TB, s *raftSnapshots, id string, index uint64, size int) {
	t.Helper()
	meta, source, err := s.Open(id)
	require.NoError(t, err)
	data, err := io.ReadAll(source)
	require.NoError(t, err)
	require.NoError(t, source.Close())
	require.Equal(t, snapshotData(index, size), data)
	require.Equal(t, index, meta.Index)
	require.EqualValues(t, 3, meta.Term)
	require.EqualValues(t, size, meta.Size)
	require.Equal(t, index-1, meta.ConfigurationIndex)
	require.Len(t, meta.Configuration.Servers, 2)
	require.Equal(t, raft.Nonvoter, meta.Configuration.Servers[1].Suffrage)
}

func indexes(t testing.TB, s *raftSnapshots) (list []uint64) {
	t.Helper()
	metas, err := s.List()
	require.NoError(t, err)
	for _, m := range metas {
		list = append(list, m.Index)
	}
	return list
}

func TestSnapshotsAreKept(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	sizes := map[uint64]int{10: 0, 20: 1, 30: 3*chunkBytes + 7, 40: chunkBytes}
	withSnapshots(t, fs, func(s *raftSnapshots) {
		require.Empty(t, indexes(t, s))
		for _, index := range []uint64{10, 20, 30, 40} {
			require.NoError(t, saveSnapshot(s, index, sizes[index]))
		}
		require.Equal(t, []uint64{40, 30}, indexes(t, s))
		cancelled, err := s.Create(1, 50, 3, raft.Configuration{}, 1, nil)
		require.NoError(t, err)
		_, err = cancelled.Write(make([]byte, 2*chunkBytes))
		require.NoError(t, err)
		require.NoError(t, cancelled.Cancel())
		require.Equal(t, []uint64{40, 30}, indexes(t, s))
		_, _, err = s.Open(cancelled.ID())
		require.Error(t, err)
	})
	withSnapshots(t, fs, func(s *raftSnapshots) {
		require.Equal(t, []uint64{40, 30}, indexes(t, s))
		metas, _ := s.List()
		requireSnapshot(t, s, metas[0].ID, 40, sizes[40])
		requireSnapshot(t, s, metas[1].ID, 30, sizes[30])
		// One that arrives while another is written does not disturb it.
		slow, err := s.Create(1, 60, 3, metas[0].Configuration, 59, nil)
		require.NoError(t, err)
		data := snapshotData(60, 2*chunkBytes)
		_, err = slow.Write(data[:chunkBytes+1])
		require.NoError(t, err)
		require.NoError(t, saveSnapshot(s, 55, 1000))
		_, err = slow.Write(data[chunkBytes+1:])
		require.NoError(t, err)
		require.NoError(t, slow.Close())
		require.Equal(t, []uint64{60, 55}, indexes(t, s))
		requireSnapshot(t, s, slow.ID(), 60, 2*chunkBytes)
	})
	report, err := log.Check(testDir, log.CheckOptions{FS: fs, Records: true})
	require.NoError(t, err)
	for _, f := range report.Findings {
		require.LessOrEqual(t, f.Severity, log.SeverityNote, f.String())
	}
}

func TestSnapshotsTakeBoundedSpace(t *testing.T) {
	withSnapshots(t, vfs.NewMem(vfs.MemOptions{}), func(s *raftSnapshots) {
		for i := range uint64(100) {
			require.NoError(t, saveSnapshot(s, i+1, 1000))
		}
		require.Less(t, s.p.End()-s.p.Start(), int64(7))
		require.Len(t, s.list, snapshotsKept)
	})
}

// A power failure at any time leaves the newest snapshot that was closed, or a newer one.
func TestAClosedSnapshotSurvives(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	store := openStore(t, fs)
	s, err := openRaftSnapshots(store, time.Now, discard, noDeath(t))
	require.NoError(t, err)
	var mu sync.Mutex
	var closed uint64
	images := 0
	rng := rand.New(rand.NewPCG(1, 1))
	fs.SetDuring(func(vfs.Op, string) {
		mu.Lock()
		defer mu.Unlock()
		if rng.IntN(5) > 0 {
			return
		}
		promised := closed
		image := fs.Crash([]float64{0, 0.5}[rng.IntN(2)], rng)
		images++
		withSnapshots(t, image, func(s *raftSnapshots) {
			newest := s.newest()
			if newest == nil {
				require.Zero(t, promised)
				return
			}
			require.GreaterOrEqual(t, newest.Index, promised)
			requireSnapshot(t, s, newest.ID, newest.Index, int(newest.Index)*20_000)
		})
	})
	for i := range uint64(12) {
		require.NoError(t, saveSnapshot(s, 10*i+10, int(10*i+10)*20_000))
		mu.Lock()
		closed = 10*i + 10
		mu.Unlock()
	}
	fs.SetDuring(nil)
	require.NoError(t, store.Close())
	require.Greater(t, images, 10)
	t.Logf("%d images of the disk", images)
}

// flipIn flips a bit of the only segment of a partition, at a part of its length.
func flipIn(t testing.TB, fs *vfs.Mem, id log.ID, part float64) {
	t.Helper()
	dir := filepath.Join(testDir, "partitions", id.String())
	files, err := fs.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".log") {
			stat, err := fs.Stat(filepath.Join(dir, f.Name()))
			require.NoError(t, err)
			require.NoError(t, fs.FlipBit(filepath.Join(dir, f.Name()), 8*int64(float64(stat.Size())*part)))
			return
		}
	}
	t.Fatal("no segment")
}

func TestDamagedSnapshotsFallBack(t *testing.T) {
	fs := vfs.NewMem(vfs.MemOptions{})
	withSnapshots(t, fs, func(s *raftSnapshots) {
		require.NoError(t, saveSnapshot(s, 10, 2*chunkBytes))
		require.NoError(t, saveSnapshot(s, 20, 2*chunkBytes))
	})
	flipIn(t, fs, RaftSnapshotsID, 0.75)
	withSnapshots(t, fs, func(s *raftSnapshots) {
		require.Equal(t, []uint64{10}, indexes(t, s))
		requireSnapshot(t, s, s.newest().ID, 10, 2*chunkBytes)
		require.NoError(t, saveSnapshot(s, 30, 100))
		require.Equal(t, []uint64{30, 10}, indexes(t, s))
	})
}

// A broker whose copy is damaged goes on from an older snapshot and the log where that reaches
// far enough; otherwise it does not start, for it would vote away what it has forgotten.
func TestDamagedCopies(t *testing.T) {
	b := found(t, 3, func(o *RaftOptions) { o.SnapshotEntries, o.SnapshotInterval = 10, 5*time.Millisecond })
	n := b.nodes[1]
	for i := range byte(60) {
		require.NoError(t, b.do(n, create(string('a'+rune(i)), i+1)).Errors[0])
	}
	b.eventually("two snapshots, and entries behind them", func() bool {
		b.do(n, PurgeTopics{})
		s := n.running().Stats()
		return len(indexes(t, n.running().snapshots)) == 2 && s.Last > s.SnapshotIndex+2 && s.Last < s.SnapshotIndex+8
	})
	n.stop()
	older := n.fs.Crash(1, rand.New(rand.NewPCG(1, 1)))
	flipIn(t, n.fs, RaftSnapshotsID, 0.97)
	r := n.start()
	require.NoError(t, b.do(n, create("more", 99)).Errors[0])
	b.agree()
	require.NotNil(t, r.snapshots.newest())
	n.stop()

	n.fs = older
	flipIn(t, n.fs, RaftLogID, 0.999)
	_, err := n.open()
	require.ErrorIs(t, err, ErrDamaged)
	n.wipe()
	n.start()
	b.register(n, true)
	b.voters(3)
	b.agree()
}
