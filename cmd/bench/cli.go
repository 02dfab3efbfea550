package main

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sequitur-mq/sequitur/bench"
)

const serverEnv = "SEQUITUR_SERVER"

// cli is one invocation of the program with everything that it may touch.
type cli struct {
	args   []string // args[0] is how the program was called
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string

	started bool // flags were good: errors from here on are not of usage
	common  runFlags
}

// runFlags are those of every command that measures.
type runFlags struct {
	json, plot       string
	dataDir          string
	rounds           int
	quiet            bool
	patience         time.Duration
	cpuProfile       string
	memProfile       string
	serverCPUProfile string
	serverMemProfile string
}

func (f *runFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.json, "json", "", "write the report as JSON to this file (- for standard output, in place of the text)")
	flags.StringVar(&f.plot, "plot", "", "draw latency percentiles into this PNG file")
	flags.StringVar(&f.dataDir, "data-dir", "", "directory for temporary data; it should be on the disk to measure (default: the system's temporary directory)")
	flags.IntVar(&f.rounds, "rounds", 3, "rounds of each workload; medians are reported")
	flags.BoolVar(&f.quiet, "quiet", false, "show no progress")
	flags.DurationVar(&f.patience, "patience", 0, "wait up to this long before each round for the rest of the machine to become quiet")
	flags.StringVar(&f.cpuProfile, "cpuprofile", "", "write this process's (the client's) CPU profile to this file")
	flags.StringVar(&f.memProfile, "memprofile", "", "write this process's allocation profile to this file")
	flags.StringVar(&f.serverCPUProfile, "server-cpuprofile", "", "write the child broker's CPU profile to this file")
	flags.StringVar(&f.serverMemProfile, "server-memprofile", "", "write the child broker's allocation profile to this file")
}

// loadFlags describe a load.
type loadFlags struct {
	server      string
	cluster     int
	replicas    int
	size        int
	payloadFile string
	rate        float64
	duration    time.Duration
	warmup      time.Duration
	count       uint64
	partitions  int
	producers   int
	outstanding int
	keys        int
	acks        string
	fsync       string
	compression string
	linger      time.Duration
	batchBytes  int
}

func (f *loadFlags) add(c *cli, flags *pflag.FlagSet) {
	f.addStream(c, flags)
	flags.Float64Var(&f.rate, "rate", 0, "records per second on an open-loop schedule; 0: as fast as they are taken")
	flags.DurationVar(&f.duration, "duration", 10*time.Second, "time of a round")
	flags.DurationVar(&f.warmup, "warmup", time.Second, "time before each round that is not counted")
}

// addStream adds the flags that say what a topic and its records are like.
func (f *loadFlags) addStream(c *cli, flags *pflag.FlagSet) {
	flags.StringVar(&f.server, "server", c.getenv(serverEnv), "broker to measure, HOST:PORT (default: a child process with a temporary directory; or "+serverEnv+")")
	flags.IntVar(&f.cluster, "cluster", 1, "brokers of the child cluster to measure, each a process with a directory of its own")
	flags.IntVar(&f.replicas, "replication-factor", 0, "brokers that hold each record; 0: all of the child cluster")
	f.addRecords(flags)
	flags.StringVar(&f.acks, "acks", "quorum", "when a record counts as acknowledged: none, leader, quorum or all")
	flags.StringVar(&f.fsync, "fsync", "always", "the topic's fsync mode: always, interval or never")
	flags.StringVar(&f.compression, "compression", "none", "none, s2 or zstd")
}

func (f *loadFlags) addRecords(flags *pflag.FlagSet) {
	flags.IntVar(&f.size, "size", 128, "bytes of a value, random")
	flags.StringVar(&f.payloadFile, "payload-file", "", "take the lines of this file as values, in turn")
	flags.IntVar(&f.partitions, "partitions", 1, "partitions of the topic")
}

func (f *loadFlags) addProducers(flags *pflag.FlagSet) {
	flags.IntVar(&f.producers, "producers", 1, "producers, each with a connection of its own")
	flags.IntVar(&f.outstanding, "outstanding", 0, "senders per producer that each wait for an acknowledgement; 0: send asynchronously")
	flags.IntVar(&f.keys, "keys", 0, "number of different keys; 0: records without keys")
	flags.DurationVar(&f.linger, "linger", 0, "time that a batch waits for more records")
	flags.IntVar(&f.batchBytes, "batch-bytes", 0, "size at which a batch is full; 0: the client's default")
}

func (f *loadFlags) payloads() (*bench.Payloads, error) {
	return bench.LoadPayloads(bench.PayloadSpec{Size: f.size, File: f.payloadFile})
}

func (f *loadFlags) stream() bench.StreamSpec {
	replicas := f.replicas
	if replicas == 0 && f.server == "" {
		replicas = f.cluster
	}
	return bench.StreamSpec{
		Partitions: f.partitions, Replicas: replicas, Fsync: f.fsync, Acks: f.acks, Compression: f.compression,
	}
}

// target is what those flags name to be measured.
func (f *loadFlags) target() target { return target{server: f.server, cluster: f.cluster} }

func (f *loadFlags) produceSpec() (bench.ProduceSpec, error) {
	payloads, err := f.payloads()
	spec := bench.ProduceSpec{
		Stream: f.stream(), Payloads: payloads, Mode: bench.Async, Producers: f.producers, Concurrency: f.outstanding,
		Rate: f.rate, Keys: f.keys, Linger: f.linger, BatchBytes: f.batchBytes, Warmup: f.warmup, Duration: f.duration, Count: f.count,
	}
	if f.outstanding > 0 {
		spec.Mode = bench.Sync
	}
	return spec, err
}

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "bench",
		Short: "Measure Sequitur",
		Long: strings.TrimSpace(`
Measures Sequitur from the outside: server and client are separate processes,
latencies go into HDR histograms, medians over rounds are reported together
with the hardware and the durability that was bought.

Without a command: starts a broker in a temporary directory and shows produce,
consume and end-to-end latency in less than half a minute.`),
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              cobra.NoArgs,
		PersistentPreRun:  func(*cobra.Command, []string) { c.started = true },
		RunE:              func(cmd *cobra.Command, _ []string) error { return c.tour(cmd.Context()) },
	}
	c.common.add(root.PersistentFlags())
	root.AddCommand(c.produceCommand(), c.consumeCommand(), c.latencyCommand(), c.compareCommand(), c.physicalCommand(),
		c.partitionsCommand(), c.restartCommand(), c.targetsCommand(), c.childCommand(), c.echoCommand())
	return root
}
