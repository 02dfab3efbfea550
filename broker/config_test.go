package broker

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the table of settings in docs/operations.md")

func TestOperationsTable(t *testing.T) {
	const file, begin, end = "../docs/operations.md", "<!-- configuration -->\n", "<!-- end configuration -->"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	table, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(before+begin+SettingsTable()+end+after), 0o644))
		return
	}
	require.Equal(t, SettingsTable(), table, "run: go test ./broker -run TestOperationsTable -update")
}

func TestDefaultsAreValid(t *testing.T) {
	c := DefaultConfig()
	require.NoError(t, c.Validate())
	for _, s := range Settings() {
		require.NotEmpty(t, s.Doc, s.Name)
		require.Equal(t, strings.ToLower(s.Name), s.Name)
		before := c
		require.NoError(t, c.Set(s.Name, s.Default))
		require.Equal(t, before, c, "%s: default reads as itself", s.Name)
	}
}

func TestConfigFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broker.json")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	c := DefaultConfig()
	write(`{"data-dir": "/srv/log", "max-frame-bytes": "8MiB", "write-timeout": "1m30s", "insecure-listen": true, "max-connections": 5}`)
	require.NoError(t, c.LoadFile(file))
	want := DefaultConfig()
	want.DataDir, want.MaxFrameBytes, want.WriteTimeout = "/srv/log", 8<<20, Duration(90*time.Second)
	want.InsecureListen, want.MaxConnections = true, 5
	require.Equal(t, want, c)

	for text, says := range map[string]string{
		`{"data-dri": "/srv"}`:            `no setting is called "data-dri"`,
		`{"Data-Dir": "/srv"}`:            `no setting is called "Data-Dir": write it "data-dir"`,
		`{"data_dir": "/srv"}`:            `write it "data-dir"`,
		`{"http": "", "http": ""}`:        `http is set twice`,
		`{"tail-bytes": 1.5}`:             `tail-bytes: "1.5" is not a number of bytes`,
		`{"tail-bytes": -1}`:              `tail-bytes: "-1" is not a number of bytes`,
		`{"tail-bytes": true}`:            `tail-bytes: true does not hold: write a number of bytes, or a text such as "64MiB"`,
		`{"tail-bytes": null}`:            `tail-bytes: null does not hold`,
		`{"tail-bytes": {"a": [1]}}`:      `tail-bytes: {"a":[1]} does not hold`,
		`{"write-timeout": 30}`:           `write-timeout: 30 does not hold: write a text with a unit`,
		`{"max-connections": "5"}`:        `max-connections: "5" does not hold: write a whole number`,
		`{"max-connections": 1e99}`:       `max-connections: "1e99" is not a whole number`,
		`{"insecure-listen": 1}`:          `insecure-listen: 1 does not hold: write true or false`,
		`{"listen": 7650}`:                `listen: 7650 does not hold: write a text in quotes`,
		`["listen"]`:                      `want one JSON object`,
		`7`:                               `want one JSON object`,
		"{\"http\": \"\",\n listen: 1}":   `line 2 is no JSON`,
		"{\"http\":\n\"\" \"listen\": 1}": `line 2 is no JSON`,
		``:                                `the file ends`,
		`{"listen":`:                      `the file ends`,
		`{"http": ""`:                     `the file ends`,
		`{"max-frame-bytes": "8 MB"}`:     `"8 MB" is not a number of bytes`,
		`{"write-timeout": "soon"}`:       `"soon" is not a duration`,
		`{"write-timeout": "1s"} extra`:   `follows`,
		`{`:                               `unexpected EOF`,
	} {
		write(text)
		before := c
		err := c.LoadFile(file)
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "broker.json")
		require.Equal(t, before, c, "nothing is taken from a bad file")
	}
	require.ErrorIs(t, c.LoadFile(file+"x"), os.ErrNotExist)

	write(`{"tail-bytes": 0, "memory-bytes": 268435456, "scrub-interval": 0, "http": ""}`)
	require.NoError(t, c.LoadFile(file))
	require.Zero(t, c.TailBytes)
	require.EqualValues(t, 256<<20, c.MemoryBytes)
	require.Zero(t, c.ScrubInterval)
	write(`{}`)
	require.NoError(t, c.LoadFile(file))
}

func TestConfigEnv(t *testing.T) {
	env := map[string]string{
		"SEQUITUR_DATA_DIR": "/srv/log", "SEQUITUR_MEMORY_BYTES": "1GiB", "SEQUITUR_SCRUB_INTERVAL": "0s",
		"SEQUITUR_INSECURE_LISTEN": "true", "SEQUITUR_MAX_PARTITIONS": "7", "SEQUITUR_SERVER": "not ours",
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	c := DefaultConfig()
	require.NoError(t, c.LoadEnv(lookup))
	require.Equal(t, "/srv/log", c.DataDir)
	require.EqualValues(t, 1<<30, c.MemoryBytes)
	require.Zero(t, c.ScrubInterval)
	require.True(t, c.InsecureListen)
	require.Equal(t, 7, c.MaxPartitions)
	for name, value := range map[string]string{
		"SEQUITUR_MAX_PARTITIONS": "many", "SEQUITUR_INSECURE_LISTEN": "maybe", "SEQUITUR_TAIL_BYTES": "-1",
	} {
		env = map[string]string{name: value}
		require.ErrorContains(t, c.LoadEnv(lookup), name)
	}
	require.Error(t, c.Set("nothing", "1"))
}

func TestValidateRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"data-dir":           func(c *Config) { c.DataDir = "" },
		"max-frame-bytes":    func(c *Config) { c.MaxFrameBytes = 1 << 30 },
		"memory-bytes":       func(c *Config) { c.MemoryBytes = 1 << 20 },
		"connection-bytes":   func(c *Config) { c.ConnectionBytes = 1 },
		"fetch-memory-bytes": func(c *Config) { c.FetchMemoryBytes = 1 },
		"max-fetch-bytes":    func(c *Config) { c.MaxFetchBytes = 0 },
		"max-connections":    func(c *Config) { c.MaxConnections = 0 },
		"write-timeout":      func(c *Config) { c.WriteTimeout = 0 },
		"listen":             func(c *Config) { c.Listen = "7650" },
		"insecure-listen":    func(c *Config) { c.Listen = "0.0.0.0:7650" },
		"http":               func(c *Config) { c.HTTP = ":7660" },
		"advertise":          func(c *Config) { c.Advertise = "somewhere" },
		"names no host":      func(c *Config) { c.Advertise = ":7650" },
		"are both":           func(c *Config) { c.HTTP = c.Listen },
		`is "99999"`:         func(c *Config) { c.Listen = ":99999" },
		`is "-1"`:            func(c *Config) { c.HTTP = "127.0.0.1:-1" },
		`is ""`:              func(c *Config) { c.Listen = "127.0.0.1:" },
		`is "http"`:          func(c *Config) { c.Listen = "127.0.0.1:http" },
		"is not HOST:PORT":   func(c *Config) { c.Listen = "[::1" },
		"node-id":            func(c *Config) { c.NodeID = -1 },
		"join":               func(c *Config) { c.Join = "127.0.0.1:1" },
		"node-id is not set": func(c *Config) { c.ClusterListen = "127.0.0.1:7651" },
		"cluster-listen":     func(c *Config) { c.NodeID, c.ClusterListen = 1, "0.0.0.0:7651" },
		"cluster-advertise":  func(c *Config) { c.NodeID, c.ClusterListen, c.ClusterAdvertise = 1, "127.0.0.1:7651", ":0" },
		"also that of":       func(c *Config) { c.NodeID, c.ClusterListen = 1, c.Listen },
		`join "nowhere"`:     func(c *Config) { c.NodeID, c.ClusterListen, c.Join = 1, "127.0.0.1:7651", "127.0.0.1:1, nowhere" },
	} {
		c := DefaultConfig()
		change(&c)
		require.ErrorContains(t, c.Validate(), name)
	}
	for _, listen := range []string{"localhost:1", "[::1]:1", "127.0.0.2:1"} {
		c := DefaultConfig()
		c.Listen, c.HTTP = listen, ""
		require.NoError(t, c.Validate())
	}
	c := DefaultConfig()
	c.Listen, c.InsecureListen = "0.0.0.0:7650", true
	require.NoError(t, c.Validate())
}
