package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// A localBroker is a broker of a cluster on this machine, a process of its own.
type localBroker struct {
	node                   int
	client, cluster, admin string // addresses
	args                   []string
	cmd                    *exec.Cmd
	out                    *os.File
	log                    string // file
}

func (c *cli) clusterLocal() *cobra.Command {
	var brokers, port int
	var data string
	cmd := &cobra.Command{
		Use:   "local",
		Short: "Run a cluster on this machine, each broker a process of its own",
		Long: `Runs brokers as processes on this machine until Ctrl-C, and says what to type
to kill one and watch. Broker i listens on port, port+1 (for the others) and
port+2 (HTTP), where port is --port plus ten times (i-1). A broker that ends is
not started again; the command to do so is printed.`,
		Example: `  broker cluster local
  broker cluster local --brokers 5 --data /var/tmp/five --port 9000`,
		Args: names(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			if brokers < 1 || brokers > 9 {
				return usagef("for example: --brokers 3", "--brokers %d is out of range: 1 to 9", brokers)
			}
			if port < 1 || port+10*brokers > 65535 {
				return usagef("for example: --port 7650", "--port %d leaves no room for the ports of %d brokers", port, brokers)
			}
			return c.runLocal(data, brokers, port)
		},
	}
	cmd.Flags().IntVar(&brokers, "brokers", 3, "number of brokers")
	cmd.Flags().StringVar(&data, "data", "./cluster", "directory that holds a directory for each broker")
	cmd.Flags().IntVar(&port, "port", 7650, "first port")
	return cmd
}

func (c *cli) runLocal(data string, n, port int) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	at := func(i, k int) string { return fmt.Sprintf("127.0.0.1:%d", port+10*i+k) }
	var join, servers []string
	for i := range n {
		servers, join = append(servers, at(i, 0)), append(join, at(i, 1))
	}
	ctx, stop := c.interruptible(context.Background())
	defer stop()
	var list []*localBroker
	defer func() { stopAll(list) }()
	for i := range n {
		b := &localBroker{node: i + 1, client: at(i, 0), cluster: at(i, 1), admin: at(i, 2)}
		dir := filepath.Join(data, fmt.Sprint("broker-", i+1))
		b.log = dir + ".log"
		b.args = []string{"serve", "--data", dir, "--listen", b.client, "--http", b.admin,
			"--node-id", fmt.Sprint(i + 1), "--cluster-listen", b.cluster, "--join", strings.Join(join, ",")}
		if err := b.start(self); err != nil {
			return fmt.Errorf("start broker %d: %w", i+1, err)
		}
		list = append(list, b)
	}
	ends := make(chan *localBroker, n)
	for _, b := range list {
		go func() {
			_ = b.cmd.Wait() // how it ended is seen in its state
			ends <- b
		}()
	}
	for _, b := range list {
		if err := b.awaitReady(ctx); err != nil {
			if interrupted(ctx) {
				return waitAll(list, ends, 0)
			}
			return fail(exitFailure, "see why: "+b.log, "broker %d is not ready: %v", b.node, err)
		}
	}
	c.localBanner(list, servers)
	return c.attendLocal(ctx, list, ends)
}

// attendLocal tells about brokers that end, until Ctrl-C ends all.
func (c *cli) attendLocal(ctx context.Context, list []*localBroker, ends chan *localBroker) error {
	gone := 0
	for gone < len(list) {
		select {
		case b := <-ends:
			gone++
			c.say("broker %d has ended: %v\n  start it again, in another terminal, with:\n  %s %s", b.node, b.cmd.ProcessState, c.invoked(), strings.Join(b.args, " "))
		case <-ctx.Done():
			c.say("stopping all brokers")
			return waitAll(list, ends, gone)
		}
	}
	return fail(exitFailure, "see why in the files *.log of the data directory", "all brokers have ended")
}

func waitAll(list []*localBroker, ends chan *localBroker, gone int) error {
	// All at once: there is nobody to hand over to.
	for _, b := range list {
		_ = b.cmd.Process.Signal(syscall.SIGTERM)
	}
	for ; gone < len(list); gone++ {
		<-ends
	}
	return nil
}

// stopAll leaves no process behind, whatever happened.
func stopAll(list []*localBroker) {
	for _, b := range list {
		_ = b.cmd.Process.Kill()
		b.out.Close()
	}
}

func (b *localBroker) start(self string) (err error) {
	if b.out, err = os.OpenFile(b.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return err
	}
	b.cmd = exec.Command(self, b.args...)
	b.cmd.Stdout, b.cmd.Stderr = b.out, b.out
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process, which tells the others
	if err := b.cmd.Start(); err != nil {
		b.out.Close()
		return err
	}
	return nil
}

// awaitReady waits until the broker takes connections of clients that it answers.
func (b *localBroker) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	var last error
	for {
		if last = ready(ctx, b.admin); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ready asks a broker's /readyz.
func ready(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := fmt.Fprintf(conn, "GET /readyz HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	answer := make([]byte, 512)
	n, err := conn.Read(answer)
	if n == 0 && err != nil {
		return err
	}
	status, _, _ := strings.Cut(string(answer[:n]), "\r\n")
	if !strings.Contains(status, " 200") {
		return fmt.Errorf("its state is %q", status)
	}
	return nil
}

// localBanner says what runs and what to try.
func (c *cli) localBanner(list []*localBroker, servers []string) {
	var s strings.Builder
	fmt.Fprintf(&s, "A cluster of %s is ready\n", count(int64(len(list)), "broker"))
	for _, b := range list {
		fmt.Fprintf(&s, "  broker %d  process %d, clients %s, http %s, log %s\n", b.node, b.cmd.Process.Pid, b.client, b.admin, b.log)
	}
	self, server := c.invoked(), strings.Join(servers, ",")
	fmt.Fprintf(&s, `
Type next, in another terminal:
  export %s=%s
  %s topic create greetings --partitions 4 --replication-factor %d
  seq 1 100000 | %s produce greetings
  %s topic describe greetings
  %s cluster status
Kill a broker, and see others take over while records go on:
  kill -9 %d
  %s cluster status

Ctrl-C stops all of them.
`, serverEnv, server, self, len(list), self, self, self, list[0].cmd.Process.Pid, self)
	fmt.Fprint(c.stdout, s.String())
}
