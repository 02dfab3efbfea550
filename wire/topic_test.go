package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDefaultTopicConfig(t *testing.T) {
	c := DefaultTopicConfig()
	require.NoError(t, c.Validate())
	require.Equal(t, "partitions=1 fsync=always", c.String())
	require.Equal(t, c, c.WithDefaults())

	zero := TopicConfig{}.WithDefaults()
	require.NoError(t, zero.Validate())
	require.Zero(t, zero.RetentionTime, "zero keeps records forever; it is not replaced")

	ranged := TopicConfig{Partitioner: PartitionerRange, Splits: [][]byte{[]byte("g"), []byte("p")}}.WithDefaults()
	require.Equal(t, uint32(3), ranged.Partitions)
	require.NoError(t, ranged.Validate())
}

func TestTopicConfigValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*TopicConfig)
		code   Code
		text   string
	}{
		{func(c *TopicConfig) { c.Partitions = 0 }, CodeInvalidConfig, "partitions must be"},
		{func(c *TopicConfig) { c.Partitions = MaxPartitions + 1 }, CodeInvalidConfig, "partitions must be"},
		{func(c *TopicConfig) { c.Partitioner = 9 }, CodeInvalidConfig, "partitioner must be hash, range or ring"},
		{func(c *TopicConfig) { c.Splits = [][]byte{[]byte("a")} }, CodeInvalidConfig, "splits are only for partitioner range"},
		{func(c *TopicConfig) { c.Partitioner, c.Partitions = PartitionerRange, 3 }, CodeInvalidConfig, "splits must be 2 keys"},
		{func(c *TopicConfig) {
			c.Partitioner, c.Partitions, c.Splits = PartitionerRange, 3, [][]byte{[]byte("b"), []byte("b")}
		}, CodeInvalidConfig, "strictly ascending"},
		{func(c *TopicConfig) { c.Partitioner, c.Partitions, c.Splits = PartitionerRange, 2, [][]byte{{}} }, CodeInvalidConfig, "1 to 1024 bytes"},
		{func(c *TopicConfig) { c.VirtualNodes = 0 }, CodeInvalidConfig, "virtual-nodes"},
		{func(c *TopicConfig) {
			c.Partitioner, c.Partitions, c.VirtualNodes = PartitionerRing, MaxPartitions, MaxVirtualNodes
		}, CodeInvalidConfig, "virtual-nodes times partitions"},
		{func(c *TopicConfig) { c.ReplicationFactor = 0 }, CodeInvalidConfig, "replication-factor"},
		{func(c *TopicConfig) { c.Fsync = 3 }, CodeInvalidConfig, "fsync must be always, interval or never"},
		{func(c *TopicConfig) { c.FsyncInterval = 0 }, CodeInvalidConfig, "fsync-interval"},
		{func(c *TopicConfig) { c.RetentionTime = -time.Second }, CodeInvalidConfig, "retention-time"},
		{func(c *TopicConfig) { c.RetentionTime = MaxTopicTime + time.Second }, CodeInvalidConfig, "retention-time"},
		{func(c *TopicConfig) { c.DedupWindow = time.Microsecond }, CodeInvalidConfig, "dedup-window must be whole milliseconds"},
		{func(c *TopicConfig) { c.TombstoneRetention = -1 }, CodeInvalidConfig, "tombstone-retention"},
		{func(c *TopicConfig) { c.RetentionBytes = 1 << 63 }, CodeInvalidConfig, "retention-bytes"},
		{func(c *TopicConfig) { c.Cleanup = 2 }, CodeInvalidConfig, "cleanup must be delete or compact"},
		{func(c *TopicConfig) { c.SegmentBytes = 4096 }, CodeInvalidConfig, "segment-bytes"},
		{func(c *TopicConfig) { c.MaxBatchBytes = 16 << 20 }, CodeInvalidConfig, "max-batch-bytes"},
		{func(c *TopicConfig) { c.SegmentBytes, c.MaxBatchBytes = 1<<20, 2<<20 }, CodeInvalidConfig, "above segment-bytes"},
		{func(c *TopicConfig) { c.Ordering = OrderingTotal }, CodeUnsupported, "ordering total is not supported"},
		{func(c *TopicConfig) { c.Ordering = OrderingCausal }, CodeUnsupported, "ordering causal is not supported"},
		{func(c *TopicConfig) { c.Ordering = 7 }, CodeInvalidConfig, "ordering must be"},
	} {
		config := DefaultTopicConfig()
		c.change(&config)
		err := config.Validate()
		require.Equal(t, c.code, CodeOf(err), "%v", err)
		require.ErrorContains(t, err, c.text)
	}
}

// Every field of the struct is in the table, and the table changes that field
// and no other.
func TestTopicFieldsCoverTheStruct(t *testing.T) {
	fields := TopicFields()
	other := TopicConfig{
		Partitions: 3, Partitioner: PartitionerRange, Splits: [][]byte{[]byte("g"), {0xff, 0}}, VirtualNodes: 7,
		ReplicationFactor: 3, Fsync: FsyncInterval, FsyncInterval: 5 * time.Millisecond, RetentionTime: time.Hour,
		RetentionBytes: 1 << 33, Cleanup: CleanupCompact, SegmentBytes: 2 << 20, TombstoneRetention: time.Minute,
		DedupWindow: 90 * time.Second, MaxBatchBytes: 4096, Ordering: OrderingCausal,
	}
	defaults := DefaultTopicConfig()
	require.Equal(t, TopicMask(1<<len(fields)-1), defaults.Diff(&other))
	require.Equal(t, MaskOrdering, fields[len(fields)-1].Mask, "the constants are in the order of the table")

	built := DefaultTopicConfig()
	var mask TopicMask
	for i, f := range fields {
		require.Equal(t, TopicMask(1)<<i, f.Mask)
		require.NotEmpty(t, f.Doc)
		require.NotEmpty(t, f.Type)
		require.NoError(t, f.Set(&built, f.Get(&other)), f.Name)
		mask |= f.Mask
		require.Equal(t, mask, defaults.Diff(&built), f.Name)
		found, ok := LookupTopicField(f.JSON)
		require.True(t, ok)
		require.Equal(t, f.Name, found.Name)
	}
	require.Equal(t, other, built)
	require.Equal(t, other.appendTo(nil), built.appendTo(nil))
	_, ok := LookupTopicField("colour")
	require.False(t, ok)
}

func TestTopicFieldSet(t *testing.T) {
	for _, c := range []struct{ field, in, out string }{
		{"partitions", "10000", "10000"},
		{"retention-time", "7d", "168h0m0s"},
		{"retention-time", "1w2d3h", "219h0m0s"},
		{"retention-time", "0", "0s"},
		{"dedup-window", "250ms", "250ms"},
		{"retention-bytes", "16GiB", "17179869184"},
		{"segment-bytes", "64 MiB", "67108864"},
		{"max-batch-bytes", "65536", "65536"},
		{"splits", "g,base64:/wA=", "g,base64:/wA="},
		{"splits", "", ""},
		{"cleanup", "compact", "compact"},
	} {
		f, _ := LookupTopicField(c.field)
		config := DefaultTopicConfig()
		require.NoError(t, f.Set(&config, c.in), c)
		require.Equal(t, c.out, f.Get(&config), c)
	}
	for _, c := range []struct{ field, in string }{
		{"partitions", "-1"}, {"partitions", "4294967296"}, {"partitions", "1KiB"}, {"replication-factor", "65536"},
		{"retention-time", "soon"}, {"retention-time", "-1h"}, {"retention-time", "99999d"}, {"retention-time", "12"}, {"retention-time", "d"},
		{"retention-bytes", "1XB"}, {"retention-bytes", "99999999999TiB"}, {"segment-bytes", "4GiB"},
		{"splits", "base64:%"}, {"fsync", "sometimes"}, {"ordering", "Total"},
	} {
		f, _ := LookupTopicField(c.field)
		config := DefaultTopicConfig()
		err := f.Set(&config, c.in)
		require.ErrorIs(t, err, ErrInvalidConfig, c)
		require.ErrorContains(t, err, c.field)
		require.Equal(t, DefaultTopicConfig(), config, "a bad value changes nothing")
	}
}

// The range that a refused value is told is the one that Validate enforces.
func TestTopicFieldNamesItsRange(t *testing.T) {
	for field, says := range map[string]string{
		"partitions": "from 1 to 65536", "virtual-nodes": "from 1 to 4096", "replication-factor": "from 1 to 15",
		"segment-bytes": "from 1048576 to 1073741824", "max-batch-bytes": "from 1024 to 8388608", "retention-bytes": "from 0 to 4611686018427387904",
	} {
		f, _ := LookupTopicField(field)
		config := DefaultTopicConfig()
		require.ErrorContains(t, f.Set(&config, "many"), says)
		var least, most uint64
		_, err := fmt.Sscanf(says, "from %d to %d", &least, &most)
		require.NoError(t, err)
		try := func(n uint64) error {
			config := DefaultTopicConfig()
			config.SegmentBytes, config.MaxBatchBytes = MaxSegmentBytes, MinBatchBytes
			if err := f.Set(&config, strconv.FormatUint(n, 10)); err != nil {
				return err
			}
			return config.Validate()
		}
		require.NoError(t, try(least), field)
		require.NoError(t, try(most), field)
		require.ErrorIs(t, try(least-1), ErrInvalidConfig, field)
		require.ErrorIs(t, try(most+1), ErrInvalidConfig, field)
	}
}

func TestAlter(t *testing.T) {
	c, to := DefaultTopicConfig(), DefaultTopicConfig()
	to.RetentionTime, to.Fsync, to.Partitions = time.Hour, FsyncNever, 9

	got, err := c.Alter(to, MaskRetentionTime)
	require.NoError(t, err)
	want := DefaultTopicConfig()
	want.RetentionTime = time.Hour
	require.Equal(t, want, got)

	_, err = c.Alter(to, MaskPartitions)
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorContains(t, err, "partitions cannot be altered")
	_, err = c.Alter(to, MaskPartitioner|MaskSplits|MaskVirtualNodes)
	require.NoError(t, err, "naming a field with its present value alters nothing")
	_, err = c.Alter(to, 1<<63)
	require.ErrorIs(t, err, ErrInvalidRequest)
	to.SegmentBytes = 1
	_, err = c.Alter(to, MaskSegmentBytes)
	require.ErrorIs(t, err, ErrInvalidConfig)
}

func TestTopicConfigJSON(t *testing.T) {
	c := DefaultTopicConfig()
	c.Partitioner, c.Partitions = PartitionerRange, 3
	c.Splits = [][]byte{[]byte("größer"), {0xff, 0xfe}}
	b, err := json.Marshal(c)
	require.NoError(t, err)
	require.Equal(t, `{"partitions":3,"partitioner":"range","splits":["größer","base64://4="],"virtual_nodes":128,`+
		`"replication_factor":1,"fsync":"always","fsync_interval":"1s","retention_time":"168h0m0s","retention_bytes":0,`+
		`"cleanup":"delete","segment_bytes":134217728,"tombstone_retention":"24h0m0s","dedup_window":"0s",`+
		`"max_batch_bytes":1048576,"ordering":"partition"}`, string(b))

	partial := DefaultTopicConfig()
	require.NoError(t, json.Unmarshal([]byte(`{"partitions": 8, "segment_bytes": "64MiB", "retention_time": "2d"}`), &partial))
	require.Equal(t, "partitions=8 fsync=always retention-time=48h0m0s segment-bytes=67108864", partial.String())

	for _, bad := range []string{`[]`, `{"partition": 1}`, `{"partitions": -1}`, `{"partitions": 1.5}`, `{"splits": "a"}`, `{"splits": ["base64:%"]}`, `{"fsync": null}`, `{"fsync": {}}`} {
		require.Error(t, json.Unmarshal([]byte(bad), &partial), bad)
	}
}

func TestTopicConfigJSONKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		c.Partitioner %= 3
		c.Fsync %= 3
		c.Cleanup %= 2
		c.Ordering %= 3
		b, err := json.Marshal(c)
		require.NoError(t, err)
		got := DefaultTopicConfig()
		require.NoError(t, json.Unmarshal(b, &got))
		require.Equal(t, c.appendTo(nil), got.appendTo(nil))

		flags := TopicConfig{}
		for _, f := range TopicFields() {
			require.NoError(t, f.Set(&flags, f.Get(&c)), f.Name)
		}
		require.Equal(t, c.appendTo(nil), flags.appendTo(nil))
	})
}

func TestKeysAsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var keys [][]byte
		for range rapid.IntRange(0, 4).Draw(t, "keys") {
			key := rapid.SliceOfN(rapid.Byte(), 1, 10).Draw(t, "key")
			if rapid.Bool().Draw(t, "text") {
				key = []byte(rapid.StringN(1, 10, 40).Draw(t, "key"))
			}
			keys = append(keys, key)
		}
		got, err := ParseKeys(FormatKeys(keys))
		require.NoError(t, err)
		require.Equal(t, len(keys), len(got))
		for i := range keys {
			require.True(t, bytes.Equal(keys[i], got[i]))
		}
	})
	require.Equal(t, "base64:YmFzZTY0Og==", FormatKey([]byte("base64:")), "a key cannot pose as coded")
}

func TestEnums(t *testing.T) {
	for i, name := range acksNames {
		v, err := ParseAcks(name)
		require.NoError(t, err)
		require.Equal(t, Acks(i), v)
		require.Equal(t, name, v.String())
	}
	_, err := ParseAcks("most")
	require.ErrorContains(t, err, "acks must be none, leader, quorum or all")
	require.Equal(t, "partitioner(9)", Partitioner(9).String())
	require.Equal(t, "time", OffsetByTime.String())
	for _, parse := range []func(string) error{
		func(s string) error { _, err := ParsePartitioner(s); return err },
		func(s string) error { _, err := ParseFsync(s); return err },
		func(s string) error { _, err := ParseCleanup(s); return err },
		func(s string) error { _, err := ParseOrdering(s); return err },
	} {
		require.ErrorIs(t, parse("?"), ErrInvalidConfig)
	}
}

func TestTopicNames(t *testing.T) {
	for _, good := range []string{"a", "orders.v2", "A-b_C.9", "__internal", "...", strings.Repeat("x", 200)} {
		require.NoError(t, ValidateTopicName(good), good)
	}
	for _, bad := range []string{"", ".", "..", "a/b", "a b", "größe", "a\x00", "a@b", strings.Repeat("x", 201)} {
		require.ErrorIs(t, ValidateTopicName(bad), ErrInvalidTopicName, bad)
	}
	require.True(t, InternalTopic("__groups"))
	require.False(t, InternalTopic("_groups"))
}
