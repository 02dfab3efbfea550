package broker

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/log"
)

// spoil changes a byte of a file.
func spoil(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotEmpty(t, b)
	b[min(len(b)-1, 12)] ^= 0x40
	require.NoError(t, os.WriteFile(file, b, 0o644))
}

// A broker whose directory is damaged beyond opening moves the content aside and
// becomes a new replica of everything that it had, by itself.
func TestDamagedDirectoryIsReplaced(t *testing.T) {
	bed := startCluster(t, 3)
	c := bed.client()
	bed.create(c, "orders", 3, 3)
	l := startLoad(t, c, "orders", 200*time.Microsecond)
	for _, damage := range []func(dir string){
		func(dir string) { spoil(t, filepath.Join(dir, "identity")) },
		func(dir string) { spoil(t, filepath.Join(dir, "checkpoint")) },
		func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "identity"))) },
	} {
		<-time.After(50 * time.Millisecond)
		bed.stop(2)
		damage(bed.configs[2].DataDir)
		bed.start(2)
		bed.await()
		bed.settled()
	}
	moved, err := filepath.Glob(filepath.Join(bed.configs[2].DataDir, quarantinePrefix+"*", "checkpoint"))
	require.NoError(t, err)
	require.Len(t, moved, 3, "everything is still there")
	l.end()
	l.check(c)
}

// Where nobody else has the data, or nobody is in a cluster, damage stays what it
// is: nothing is founded in its place.
func TestDamageIsNotReplacedAlone(t *testing.T) {
	cfg := clusterConfig(t, 0, []string{freePort(t)})
	b := startConfig(t, cfg)
	select {
	case <-b.Serving():
	case <-time.After(patience):
		t.Fatal(b.Ready())
	}
	require.NoError(t, b.Close())
	spoil(t, filepath.Join(cfg.DataDir, "checkpoint"))
	_, err := Start(context.Background(), cfg)
	require.ErrorIs(t, err, log.ErrCorrupt)

	// With others to join it moves aside, but founds nothing although it is the
	// lowest of all that answer.
	other := clusterConfig(t, 1, []string{cfg.ClusterListen, freePort(t)})
	cfg.Join = other.Join
	b = startConfig(t, cfg)
	waiting := startConfig(t, other)
	for range 20 {
		require.Error(t, b.Ready())
		require.Error(t, waiting.Ready())
		<-time.After(10 * time.Millisecond)
	}
}
