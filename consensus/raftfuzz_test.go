package consensus

import (
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/record"
)

// batchOf builds the batch of one record.
func batchOf(t testing.TB, key, value []byte) record.Batch {
	b := record.NewBuilder(0)
	b.Append(1, key, value, nil)
	built, err := b.Build(nil, record.CodecNone, 0, 0, 0)
	require.NoError(t, err)
	built.Stamp(7, 1, 1)
	return built
}

func FuzzRaftEntry(f *testing.F) {
	for _, e := range entries(6, 3, 2) {
		f.Add(encodeEntry(e))
	}
	f.Add(encodeEntry(&raft.Log{Term: 1, Extensions: []byte("x"), Data: Encode(RemoveBroker{1})}))
	f.Fuzz(func(t *testing.T, value []byte) {
		e, err := decodeEntry(batchOf(t, nil, value))
		if err != nil {
			return
		}
		require.EqualValues(t, 7, e.Index)
		again, err := decodeEntry(batchOf(t, nil, encodeEntry(e)))
		require.NoError(t, err)
		require.Equal(t, e, again)
	})
}

func FuzzRaftSnapshotRecord(f *testing.F) {
	meta := raft.SnapshotMeta{Version: 1, Index: 5, Term: 3, ConfigurationIndex: 4, Configuration: raft.Configuration{
		Servers: []raft.Server{{ID: "id", Address: "address"}, {Suffrage: raft.Nonvoter, ID: "other"}},
	}}
	number := le.AppendUint64(nil, 9)
	f.Add(byte(snapshotBegin), appendSnapshotMeta(number, &meta))
	f.Add(byte(snapshotChunk), append(le.AppendUint64(nil, 9), "chunk"...))
	f.Add(byte(snapshotEnd), le.AppendUint32(le.AppendUint64(le.AppendUint64(nil, 9), 5), 77))
	f.Fuzz(func(t *testing.T, key byte, value []byte) {
		s := &raftSnapshots{}
		if s.loadBatch(batchOf(t, []byte{key}, value)) != nil {
			return
		}
		for _, x := range s.list {
			d := &decoder{b: appendSnapshotMeta(nil, &x.meta)}
			again := d.snapshotMeta()
			require.NoError(t, d.err)
			again.ID = x.meta.ID
			require.Equal(t, x.meta, again)
		}
	})
}
