package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// A localBroker is a broker of a cluster on this machine, a process of its own.
type localBroker struct {
	node                   int
	client, cluster, admin string // addresses
	args                   []string
	cmd                    *exec.Cmd
	out                    *os.File
	log                    string // file
	ended                  chan struct{}
	logged                 int64 // bytes that earlier runs left in it
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
			<-b.ended
			ends <- b
		}()
	}
	if ended, err := c.awaitLocal(ctx, list, ends); err != nil {
		if interrupted(ctx) {
			return waitAll(list, ends, ended)
		}
		return err
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
	}
	for _, b := range list {
		<-b.ended // its ports and its directory are free
		b.out.Close()
	}
}

func (b *localBroker) start(self string) (err error) {
	if b.out, err = os.OpenFile(b.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err != nil {
		return err
	}
	if info, err := b.out.Stat(); err == nil {
		b.logged = info.Size()
	}
	b.cmd = exec.Command(self, b.args...)
	b.cmd.Stdout, b.cmd.Stderr = b.out, b.out
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process, which tells the others
	if err := b.cmd.Start(); err != nil {
		b.out.Close()
		return err
	}
	b.ended = make(chan struct{})
	go func() {
		_ = b.cmd.Wait() // how it ended is seen in its state
		close(b.ended)
	}()
	return nil
}

// localPatience is how often a command that starts brokers says what it waits for.
const localPatience = 5 * time.Second

// awaitLocal waits until every broker serves clients, and returns how many have ended
// meanwhile, the first of which is an error.
func (c *cli) awaitLocal(ctx context.Context, list []*localBroker, ends chan *localBroker) (ended int, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	told := time.Now()
	for _, b := range list {
		for {
			answer := make(chan error, 1)
			asking, done := context.WithCancel(ctx)
			go func() { answer <- b.ready(asking) }()
			var why error
			select {
			case gone := <-ends:
				done()
				<-answer
				return 1, gone.failed()
			case why = <-answer:
			}
			done()
			if why == nil {
				break
			}
			if time.Since(told) >= localPatience {
				told = time.Now()
				c.say("still waiting for broker %d: %v", b.node, why)
			}
			select {
			case gone := <-ends:
				return 1, gone.failed()
			case <-ctx.Done():
				return 0, fail(exitFailure, "see why: "+b.log, "broker %d is not ready: %v", b.node, why)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return 0, nil
}

// failed says why a broker ended that should have become ready.
func (b *localBroker) failed() error {
	code := b.cmd.ProcessState.ExitCode()
	if code <= 0 {
		code = exitFailure // a signal, or an end in order, which nobody asked for
	}
	todo := "see its log: " + b.log
	if code == exitInUse {
		todo = "stop that one, or choose other ports with --port, or another directory with --data\n" + todo
	}
	why := b.lastWords()
	if why == "" {
		why = b.cmd.ProcessState.String()
	}
	return fail(code, todo, "broker %d has ended before the cluster was ready: %s", b.node, why)
}

// lastWords is the error that the broker printed before it ended, empty if it did not.
func (b *localBroker) lastWords() (why string) {
	f, err := os.Open(b.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := f.Seek(b.logged, io.SeekStart); err != nil {
		return ""
	}
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for lines.Scan() {
		if said, ok := strings.CutPrefix(lines.Text(), "broker: "); ok {
			why = said
		}
	}
	return why
}

// ready returns an error until this very process, and not another one at its
// addresses, serves clients.
func (b *localBroker) ready(ctx context.Context) error {
	if err := ready(ctx, b.admin); err != nil {
		return err
	}
	client, err := sequitur.Connect(ctx, b.client, sequitur.WithClientName("broker-cli"))
	if err != nil {
		return err
	}
	defer client.Close()
	answered, err := client.DescribeBroker(ctx, b.client)
	if err == nil && int(answered.PID) != b.cmd.Process.Pid {
		err = fmt.Errorf("at %s answers another broker: process %d, with its data in %s", b.client, answered.PID, answered.DataDir)
	}
	return err
}

// ready asks a broker's /readyz.
func ready(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := fmt.Fprintf(conn, "GET /readyz HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 4<<10))
	if len(answer) == 0 && err != nil {
		return err
	}
	status, rest, _ := strings.Cut(string(answer), "\r\n")
	if !strings.Contains(status, " 200") {
		_, why, _ := strings.Cut(rest, "\r\n\r\n")
		return fmt.Errorf("its state is %q: %s", status, strings.TrimSpace(why))
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
`, serverEnv, server, self, len(list), self, self, self)
	switch len(list) {
	case 1:
	case 2:
		s.WriteString("Two brokers need each other; three or more go on when one dies: --brokers 3\n")
	default:
		fmt.Fprintf(&s, "Kill a broker, and see others take over while records go on:\n  kill -9 %d\n  %s cluster status\n", list[0].cmd.Process.Pid, self)
	}
	s.WriteString("\nCtrl-C stops all of them.\n")
	fmt.Fprint(c.stdout, s.String())
}
