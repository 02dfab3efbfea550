package broker

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// Config is everything that can be set about a broker. Its JSON names are the
// names in the configuration file, in docs/operations.md, and, upper-cased
// with underscores after SEQUITUR_, in the environment. DefaultConfig holds
// the defaults, all in one place.
type Config struct {
	// DataDir is the one directory that holds everything; made if missing.
	DataDir string `json:"data-dir" doc:"directory of journal, segments and views; made if missing"`
	// Listen is the address of the native protocol.
	Listen string `json:"listen" doc:"address of the native protocol; port 0 takes a free one"`
	// HTTP is the address of health checks and metrics; empty turns it off.
	HTTP string `json:"http" doc:"address of /healthz, /readyz and /metrics; empty turns it off"`
	// Advertise is the address that metadata names to clients.
	Advertise string `json:"advertise" doc:"address that clients are told to connect to; empty: the one listened on"`
	// InsecureListen allows addresses beyond loopback although nothing
	// authenticates clients.
	InsecureListen bool `json:"insecure-listen" doc:"allow addresses beyond loopback although clients are not authenticated"`

	NodeID           int      `json:"node-id" doc:"number of this broker in its cluster, from 1; 0: as the data directory says, which is 1 for a broker by itself"`
	ClusterListen    string   `json:"cluster-listen" doc:"address for the other brokers of a cluster; empty: a broker by itself"`
	ClusterAdvertise string   `json:"cluster-advertise" doc:"address that other brokers are told to connect to; empty: the one listened on"`
	Join             string   `json:"join" doc:"cluster addresses, separated by commas, of the brokers to found a cluster with, the same list on each, or of some that are in one; empty: founds a cluster by itself"`
	Rack             string   `json:"rack" doc:"failure domain of this broker; the replicas of a partition are put into different ones"`
	ReplaceAfter     Duration `json:"replace-after" doc:"how long a broker may be away before its replicas are made anew on others; 0: for ever"`

	MaxConnections   int      `json:"max-connections" doc:"connections at a time; further ones are closed at once"`
	HandshakeTimeout Duration `json:"handshake-timeout" doc:"time that a new connection has for its hello"`
	ProduceTimeout   Duration `json:"produce-timeout" doc:"time to the answer of a produce request that names none; what is not durable then is answered TIMEOUT"`
	WriteTimeout     Duration `json:"write-timeout" doc:"time that a client may leave its answers unread before it is disconnected"`
	ShutdownTimeout  Duration `json:"shutdown-timeout" doc:"time that requests in flight have to finish at a stop"`

	MaxFrameBytes       Bytes    `json:"max-frame-bytes" doc:"largest request frame"`
	ConnectionBytes     Bytes    `json:"connection-bytes" doc:"request bytes in flight of one connection; beyond it the broker stops reading from it"`
	MemoryBytes         Bytes    `json:"memory-bytes" doc:"request bytes in flight of all connections; beyond it requests wait, then are answered OVERLOADED"`
	MaxInflightRequests int      `json:"max-inflight-requests" doc:"requests in flight of one connection; beyond it the broker stops reading from it"`
	OverloadWait        Duration `json:"overload-wait" doc:"how long a request waits for memory before it is answered OVERLOADED"`
	RetryAfter          Duration `json:"retry-after" doc:"how long a refused client is asked to wait before it retries"`
	FetchMemoryBytes    Bytes    `json:"fetch-memory-bytes" doc:"memory of fetches that wait for records; beyond it fetches are answered OVERLOADED"`
	MaxFetchBytes       Bytes    `json:"max-fetch-bytes" doc:"largest fetch response; smaller requests get what they ask for"`
	MaxFetchWait        Duration `json:"max-fetch-wait" doc:"longest wait of a fetch for new records"`
	MaxPartitions       int      `json:"max-partitions" doc:"partitions of all topics together"`

	JournalFileBytes   Bytes    `json:"journal-file-bytes" doc:"size of one journal file; 0: 64MiB, less on a small disk"`
	JournalBytes       Bytes    `json:"journal-bytes" doc:"size of the journal at which a checkpoint is forced; bounds the time of a restart; 0: 256MiB or an eighth of the disk, whichever is less"`
	TailBytes          Bytes    `json:"tail-bytes" doc:"memory that holds the newest records for readers that keep up"`
	ReserveBytes       Bytes    `json:"reserve-bytes" doc:"free disk space below which produce is answered STORAGE_FULL; 0: 256MiB or an eighth of the disk, whichever is less"`
	CheckpointInterval Duration `json:"checkpoint-interval" doc:"longest time between two checkpoints while records arrive"`
	RetentionInterval  Duration `json:"retention-interval" doc:"time between two passes of retention and compaction"`
	ScrubInterval      Duration `json:"scrub-interval" doc:"time in which every stored byte is verified once; 0 turns it off"`

	GCPercent   int   `json:"gc-percent" doc:"GOGC of the process, unless GOGC is set; 0 leaves it"`
	MemoryLimit Bytes `json:"memory-limit" doc:"GOMEMLIMIT of the process, unless GOMEMLIMIT is set; 0 leaves it"`

	// Logger receives what the broker has to say; nil means slog.Default.
	Logger *slog.Logger `json:"-"`
	// Version is told to clients.
	Version string `json:"-"`

	fs     vfs.FS          // tests run on other file systems
	breaks followingBreaks // tests break rules with it, to see that they are needed
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		DataDir: "./data",
		Listen:  "127.0.0.1:7650",
		HTTP:    "127.0.0.1:7660",

		ReplaceAfter: Duration(10 * time.Minute),

		MaxConnections:   10_000,
		HandshakeTimeout: Duration(5 * time.Second),
		ProduceTimeout:   Duration(30 * time.Second),
		WriteTimeout:     Duration(30 * time.Second),
		ShutdownTimeout:  Duration(10 * time.Second),

		MaxFrameBytes:       16 << 20,
		ConnectionBytes:     16 << 20,
		MemoryBytes:         96 << 20,
		MaxInflightRequests: 1024,
		OverloadWait:        Duration(500 * time.Millisecond),
		RetryAfter:          Duration(100 * time.Millisecond),
		FetchMemoryBytes:    32 << 20,
		MaxFetchBytes:       16 << 20,
		MaxFetchWait:        Duration(30 * time.Second),
		MaxPartitions:       200_000,

		TailBytes:          48 << 20,
		CheckpointInterval: Duration(time.Minute),
		RetentionInterval:  Duration(30 * time.Second),
		ScrubInterval:      Duration(24 * time.Hour),

		GCPercent:   100,
		MemoryLimit: 384 << 20,

		Version: "dev",
	}
}

// Validate says what is wrong with a configuration and what to do about it.
func (c *Config) Validate() error {
	switch {
	case c.DataDir == "":
		return fmt.Errorf("data-dir is empty: name a directory")
	case c.MaxFrameBytes < 64<<10 || c.MaxFrameBytes > 1<<maxBufferShift-frameSlack:
		return fmt.Errorf("max-frame-bytes %d is out of range: use 64KiB to 63MiB", c.MaxFrameBytes)
	case c.MemoryBytes < 2*c.MaxFrameBytes:
		return fmt.Errorf("memory-bytes %d holds no two frames of max-frame-bytes %d: raise it", c.MemoryBytes, c.MaxFrameBytes)
	case c.FetchMemoryBytes < 1<<20:
		return fmt.Errorf("fetch-memory-bytes %d is too small: use at least 1MiB", c.FetchMemoryBytes)
	case c.ConnectionBytes < 64<<10:
		return fmt.Errorf("connection-bytes %d is too small: use at least 64KiB", c.ConnectionBytes)
	case c.MaxFetchBytes < 64<<10 || c.MaxFetchBytes > 23<<20: // with a batch above it, still a frame that clients take
		return fmt.Errorf("max-fetch-bytes %d is out of range: use 64KiB to 23MiB", c.MaxFetchBytes)
	case c.MaxConnections < 1 || c.MaxInflightRequests < 1 || c.MaxPartitions < 1:
		return fmt.Errorf("max-connections, max-inflight-requests and max-partitions must be at least 1")
	case c.HandshakeTimeout <= 0 || c.ProduceTimeout <= 0 || c.WriteTimeout <= 0 || c.MaxFetchWait <= 0:
		return fmt.Errorf("handshake-timeout, produce-timeout, write-timeout and max-fetch-wait must be above 0")
	}
	if err := c.checkIntervals(); err != nil {
		return err
	}
	return c.checkAddresses()
}

// checkAddresses checks what is listened on, and what clients are told.
func (c *Config) checkAddresses() error {
	if err := checkListen("listen", c.Listen, c.InsecureListen); err != nil {
		return err
	}
	if c.HTTP != "" {
		if err := checkListen("http", c.HTTP, c.InsecureListen); err != nil {
			return err
		}
		if c.HTTP == c.Listen && !strings.HasSuffix(c.Listen, ":0") {
			return fmt.Errorf("listen and http are both %q: choose two ports", c.Listen)
		}
	}
	if err := checkAdvertise("advertise", c.Advertise, "clients"); err != nil {
		return err
	}
	return c.checkCluster()
}

// checkAdvertise checks an address that others are told; empty: the one listened on.
func checkAdvertise(name, addr, whom string) error {
	if addr == "" {
		return nil
	}
	host, err := checkAddress(name, addr)
	if err != nil {
		return err
	}
	if host == "" || strings.HasSuffix(addr, ":0") {
		return fmt.Errorf("%s %q names no host and port that %s could connect to: write HOST:PORT", name, addr, whom)
	}
	return nil
}

// checkIntervals checks what runs again and again, or may be turned off with 0.
func (c *Config) checkIntervals() error {
	for _, d := range []struct {
		name  string
		value Duration
	}{{"checkpoint-interval", c.CheckpointInterval}, {"retention-interval", c.RetentionInterval}} {
		if d.value < Duration(time.Millisecond) {
			return fmt.Errorf("%s %v is too short: use at least 1ms", d.name, time.Duration(d.value))
		}
	}
	for _, d := range []struct {
		name  string
		value Duration
	}{
		{"scrub-interval", c.ScrubInterval}, {"shutdown-timeout", c.ShutdownTimeout},
		{"overload-wait", c.OverloadWait}, {"retry-after", c.RetryAfter},
	} {
		if d.value < 0 {
			return fmt.Errorf("%s %v is negative: use 0 or more", d.name, time.Duration(d.value))
		}
	}
	for _, b := range []struct {
		name         string
		value, least Bytes
	}{
		{"journal-file-bytes", c.JournalFileBytes, 64 << 10}, {"journal-bytes", c.JournalBytes, 256 << 10},
		{"reserve-bytes", c.ReserveBytes, 1}, {"memory-limit", c.MemoryLimit, 64 << 20},
	} {
		if b.value != 0 && b.value < b.least {
			return fmt.Errorf("%s %d is too small: use 0 for the default, or at least %d", b.name, b.value, b.least)
		}
	}
	if c.GCPercent < 0 || c.TailBytes < 0 {
		return fmt.Errorf("gc-percent and tail-bytes must not be negative")
	}
	return nil
}

// checkAddress checks HOST:PORT and returns the host.
func checkAddress(name, addr string) (host string, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%s %q is not HOST:PORT, such as 127.0.0.1:7650", name, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%s %q: the port must be a number from 0 to 65535, is %q; 0 takes a free one", name, addr, port)
	}
	return host, nil
}

// checkListen refuses addresses that others can reach unless that is wanted:
// nothing authenticates clients yet.
func checkListen(name, addr string, insecure bool) error {
	host, err := checkAddress(name, addr)
	if err != nil {
		return err
	}
	if insecure || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s %q can be reached from other machines, and clients are not authenticated: "+
		"listen on 127.0.0.1, or set insecure-listen if the network is trusted", name, addr)
}

// Duration is a time.Duration that is written like "30s" in configuration.
type Duration time.Duration

// MarshalText writes the duration like "1m30s".
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what MarshalText writes.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 500ms or 30s", text)
	}
	*d = Duration(v)
	return nil
}

// Bytes is a number of bytes that is written like "64MiB" in configuration.
type Bytes int64

var byteUnits = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// MarshalText writes the largest binary unit that divides the number.
func (b Bytes) MarshalText() ([]byte, error) {
	for _, u := range byteUnits {
		if b != 0 && int64(b)%u.size == 0 {
			return []byte(strconv.FormatInt(int64(b)/u.size, 10) + u.name), nil
		}
	}
	return []byte(strconv.FormatInt(int64(b), 10)), nil
}

// UnmarshalText reads a number of bytes, or one with KiB, MiB or GiB.
func (b *Bytes) UnmarshalText(text []byte) error {
	s, size := string(text), int64(1)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, size = rest, u.size
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/size {
		return fmt.Errorf("%q is not a number of bytes such as 65536 or 64MiB", text)
	}
	*b = Bytes(n * size)
	return nil
}
