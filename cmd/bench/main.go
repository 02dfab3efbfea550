// Command bench measures Sequitur: throughput, latency, processor time and memory, against the limits of the machine and
// against NATS JetStream. docs/benchmarks.md shows every command with the figures it gave.
//
// It holds flags and signals; what is measured and how is in package bench. The broker under measurement, unless one is
// named with --server, is this same program started again as a child process.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first signal ends the run in good order: children stopped, directories removed. The second ends it at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	c := &cli{args: os.Args, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	code := c.run(ctx)
	stop()
	if code != 0 {
		os.Exit(code)
	}
}

// exit codes
const (
	exitFailed = 1
	exitUsage  = 2
)

func (c *cli) run(ctx context.Context) int {
	root := c.rootCommand()
	root.SetArgs(c.args[1:])
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(c.stderr, "bench: %v\n", err)
	if c.started {
		return exitFailed
	}
	fmt.Fprintln(c.stderr, "try: bench --help")
	return exitUsage
}
