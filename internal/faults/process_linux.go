package faults

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// Ports of a broker on its host.
const (
	clientPort  = 7650
	clusterPort = 7651
	httpPort    = 7660
)

// node is one broker: its directory, and its process while it runs.
type node struct {
	number int
	dir    string // data
	side   string // notes of what a power cut would lose; "" when none are taken
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	output *os.File
}

func (n *node) addr() string { return fmt.Sprintf("%s:%d", hostIP(n.number), clientPort) }
func (n *node) name() string { return fmt.Sprintf("broker %d", n.number) }

// running reports whether the process is there.
func (n *node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// cluster is the brokers of a run, on the hosts of a lab.
type cluster struct {
	lab    *lab
	binary string
	dir    string
	nodes  []*node // by number-1
	first  int     // how many form the cluster at the beginning
	record bool    // take notes for power cuts
	say    func(format string, args ...any)
	admin  *sequitur.Client // made when it is needed first
}

// newCluster makes the directories and starts the first brokers.
func newCluster(l *lab, binary, dir string, first int, record bool, say func(string, ...any)) (*cluster, error) {
	c := &cluster{lab: l, binary: binary, dir: dir, first: first, record: record, say: say}
	for i := range l.hosts {
		n := &node{number: i + 1, dir: filepath.Join(dir, fmt.Sprintf("broker%d", i+1), "data")}
		if err := os.MkdirAll(filepath.Dir(n.dir), 0o750); err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes[:first] {
		if err := c.start(n); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// servers is the addresses of the first brokers, for clients.
func (c *cluster) servers() string {
	var list []string
	for _, n := range c.nodes[:c.first] {
		list = append(list, n.addr())
	}
	return strings.Join(list, ",")
}

// start starts a broker, which finds or founds the cluster by itself.
func (c *cluster) start(n *node) error {
	var join []string
	for _, m := range c.nodes[:c.first] {
		join = append(join, fmt.Sprintf("%s:%d", hostIP(m.number), clusterPort))
	}
	host := hostIP(n.number).String()
	cmd := exec.Command(c.binary, "serve", "--data", n.dir, "--node-id", fmt.Sprint(n.number), "--insecure-listen",
		"--listen", n.addr(), "--http", fmt.Sprintf("%s:%d", host, httpPort),
		"--cluster-listen", fmt.Sprintf("%s:%d", host, clusterPort), "--join", strings.Join(join, ","))
	cmd.Env = environment()
	if c.record {
		n.side = filepath.Join(filepath.Dir(n.dir), fmt.Sprintf("changes-%d", time.Now().UnixNano()))
		cmd.Env = append(cmd.Env, "FAULTS_RECORD="+n.side)
	}
	out, err := os.OpenFile(filepath.Join(filepath.Dir(n.dir), "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "--- started\n")
	cmd.Stdout, cmd.Stderr = out, out
	n.cmd, n.output, n.ended = cmd, out, make(chan struct{})
	if err := c.lab.start(n.number, cmd, n.ended); err != nil {
		out.Close()
		n.cmd = nil
		return fmt.Errorf("start %s: %w", n.name(), err)
	}
	return nil
}

// signal sends a signal to a broker.
func (c *cluster) signal(n *node, s syscall.Signal) error {
	if !n.running() {
		return fmt.Errorf("%s does not run: see %s", n.name(), n.output.Name())
	}
	return n.cmd.Process.Signal(s)
}

// kill ends a broker at once and waits until it is gone.
func (c *cluster) kill(n *node) error {
	if err := c.signal(n, syscall.SIGKILL); err != nil {
		return err
	}
	return c.gone(n, time.Minute)
}

// stop ends a broker as an operator would.
func (c *cluster) stop(n *node) error {
	if err := c.signal(n, syscall.SIGTERM); err != nil {
		return err
	}
	return c.gone(n, time.Minute)
}

func (c *cluster) gone(n *node, timeout time.Duration) error {
	select {
	case <-n.ended:
		return n.output.Close()
	case <-time.After(timeout):
		return fmt.Errorf("%s does not end", n.name())
	}
}

// died lists brokers that ended although nobody ended them.
func (c *cluster) died(wanted map[int]bool) (list []string) {
	for _, n := range c.nodes {
		if wanted[n.number] && !n.running() {
			list = append(list, fmt.Sprintf("%s ended by itself: %s", n.name(), lastLines(n.output.Name(), 5)))
		}
	}
	return list
}

// close ends all brokers.
func (c *cluster) close() {
	if c.admin != nil {
		_ = c.admin.Close()
	}
	for _, n := range c.nodes {
		if n.running() {
			_ = n.cmd.Process.Signal(syscall.SIGCONT)
			_ = c.kill(n)
		}
	}
}

// command runs the broker's CLI against the cluster and returns what it printed.
func (c *cluster) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.binary, append(args, "--server", c.servers())...)
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("broker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// lastLines is the end of a text file, for messages.
func lastLines(name string, n int) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 64<<10 {
		_, _ = f.Seek(-64<<10, io.SeekEnd)
	}
	var lines []string
	for s := bufio.NewScanner(f); s.Scan(); {
		lines = append(lines, s.Text())
		lines = lines[max(0, len(lines)-n):]
	}
	return strings.Join(lines, " | ")
}

// Build builds the broker with the hooks for fault tests into dir and returns its path. It runs in the module.
func Build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "broker")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "faults", "-o", binary, "github.com/sequitur-mq/sequitur/cmd/broker")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the broker: %w: %s", err, out)
	}
	return binary, nil
}
