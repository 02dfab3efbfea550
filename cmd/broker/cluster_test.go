package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// processes is a cluster of real processes.
type processes struct {
	t       *testing.T
	dirs    []string
	addrs   []string // for clients
	cluster []string
	servers []*server
}

// freePorts returns the first of n ports, step apart and each followed by more, that
// nothing listens on. They are none of those that the system gives to connections that
// go out: such a connection may take a port before a broker listens on it, or while a
// broker that was killed is away.
func freePorts(t *testing.T, n, step, more int) int {
	t.Helper()
	const low, high = 10000, 32000
	for {
		first := low + rand.IntN(high-low)
		var held []net.Listener
		free := true
		for i := range n {
			for k := range more + 1 {
				l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+i*step+k))
				if free = free && err == nil; err == nil {
					held = append(held, l)
				}
			}
		}
		for _, l := range held {
			require.NoError(t, l.Close())
		}
		if free {
			return first
		}
	}
}

func startProcesses(t *testing.T, n int) *processes {
	t.Helper()
	p := &processes{t: t, servers: make([]*server, n)}
	port := freePorts(t, n, 2, 1)
	for i := range n {
		p.dirs = append(p.dirs, t.TempDir())
		p.addrs = append(p.addrs, fmt.Sprintf("127.0.0.1:%d", port+2*i))
		p.cluster = append(p.cluster, fmt.Sprintf("127.0.0.1:%d", port+2*i+1))
	}
	var started []*process
	for i := range n {
		started = append(started, p.prepare(i))
		started[i].launch()
	}
	for i := range n {
		var err error
		p.servers[i], err = started[i].awaitServe()
		require.NoError(t, err)
	}
	return p
}

func (p *processes) prepare(i int) *process {
	return prepareServe(p.t, p.dirs[i], p.addrs[i], "--node-id", fmt.Sprint(i+1), "--cluster-listen", p.cluster[i], "--join", strings.Join(p.cluster, ","))
}

func (p *processes) restart(i int) {
	p.t.Helper()
	process := p.prepare(i)
	process.launch()
	var err error
	p.servers[i], err = process.awaitServe()
	require.NoError(p.t, err)
}

func (p *processes) all() string { return strings.Join(p.addrs, ",") }

// leader is the index of the broker that leads a partition.
func (p *processes) leader(topic string, partition int) int {
	p.t.Helper()
	var d topicJSON
	require.NoError(p.t, json.Unmarshal([]byte(ok(p.t, p.all(), nil, "topic", "describe", topic, "--json")), &d))
	require.Positive(p.t, d.Partitions[partition].Leader)
	return int(d.Partitions[partition].Leader) - 1
}

// kill -9 of whoever leads, again and again, while records come: produce goes on
// with the next leader, every line is there exactly once, and those of a key in
// their order.
func TestKillLeadersOfCluster(t *testing.T) {
	p := startProcesses(t, 3)
	ok(t, p.all(), nil, "topic", "create", "t", "--partitions", "3", "--replication-factor", "3")
	l := startLoad(t, p.all(), "t")
	const rounds, batch = 3, 5000
	for round := range rounds {
		acked := strings.Count(string(l.stdout.bytes()), "\n")
		victim := p.leader("t", round%3)
		l.feed(batch)
		_, alive := l.stdout.untilLines(acked + 1 + round*batch/rounds)
		require.True(t, alive, "%s", l.stderr.bytes())
		p.servers[victim].kill()
		l.feed(batch)
		_, alive = l.stdout.untilLines((round + 1) * 2 * batch) // without the victim
		require.True(t, alive, "%s", l.stderr.bytes())
		p.restart(victim)
	}
	require.NoError(t, l.stdin.Close())
	r := l.wait()
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Len(t, readAcks(t, string(r.stdout)), rounds*2*batch)
	l.verify(p.all(), "t", r)
	var d topicJSON
	require.NoError(t, json.Unmarshal([]byte(ok(t, p.all(), nil, "topic", "describe", "t", "--json")), &d))
	stored := int64(0)
	for _, part := range d.Partitions {
		require.Len(t, part.Lag, 3, "every replica was asked")
		stored += part.End
	}
	require.Greater(t, stored, int64(rounds*2*batch), "with the starts of epochs")
	require.Regexp(t, `(?m)^PARTITION.* LEADER +EPOCH +REPLICAS$`, ok(t, p.all(), nil, "topic", "describe", "t"))

	// All at once, and all that was acknowledged is still there.
	for _, s := range p.servers {
		s.kill()
	}
	var started []*process
	for i := range p.servers {
		started = append(started, p.prepare(i))
		started[i].launch()
	}
	for i := range p.servers {
		var err error
		p.servers[i], err = started[i].awaitServe()
		require.NoError(t, err)
	}
	l.verify(p.all(), "t", r)
	for _, s := range p.servers {
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGTERM))
	}
	for i, s := range p.servers {
		require.Equal(t, exitOK, s.wait().code)
		clean(t, p.dirs[i])
	}
}

// The command that runs a whole cluster, as a newcomer types it.
func TestClusterLocal(t *testing.T) {
	port := freePorts(t, 3, 10, 2)
	p := start(t, "", "cluster", "local", "--data", t.TempDir(), "--port", fmt.Sprint(port))
	go p.finish()
	banner, up := p.stdout.until(func(s string) bool { return strings.Contains(s, "Ctrl-C stops all") })
	require.True(t, up, "%s", p.stderr.bytes())
	servers := fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d", port, port+10, port+20)
	require.Contains(t, banner, servers)
	ok(t, servers, nil, "topic", "create", "greetings", "--partitions", "4", "--replication-factor", "3")
	ok(t, servers, numbered("line", 100), "produce", "greetings")

	// On the ports of this cluster there is no room for another one.
	second := run(t, "", nil, "cluster", "local", "--data", t.TempDir(), "--port", fmt.Sprint(port), "--brokers", "2")
	require.Equal(t, exitInUse, second.code, second.stderr)
	require.NotContains(t, string(second.stdout), "ready")
	require.Regexp(t, `broker \d has ended before the cluster was ready: the address 127.0.0.1:\d+ is in use by another broker: process \d+, with its data in `, second.stderr)
	require.Contains(t, second.stderr, "--port")

	var pid int
	_, after, found := strings.Cut(banner, "kill -9 ")
	require.True(t, found)
	_, err := fmt.Sscan(after, &pid)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	_, told := p.stderr.until(func(s string) bool { return strings.Contains(s, "broker 1 has ended") })
	require.True(t, told)
	ok(t, servers, numbered("more", 100), "produce", "greetings")
	status := ok(t, servers, nil, "cluster", "status")
	require.Contains(t, status, "dead")
	require.Contains(t, status, "4 under-replicated")
	for topic, node := range map[string]string{"greetings/0": "2", "greetings/1": "3"} {
		ok(t, servers, nil, "cluster", "move-leader", topic, node)
	}
	r := run(t, servers, nil, "cluster", "move-leader", "greetings/0", "9")
	require.NotEqual(t, exitOK, r.code)
	require.Contains(t, r.stderr, "there is no broker 9")
	p.signal(syscall.SIGINT)
	require.Equal(t, exitOK, p.wait().code)
}

// One port that is taken is named, and the brokers that would wait for ever for the one
// that needs it end.
func TestClusterLocalPortTaken(t *testing.T) {
	port := freePorts(t, 3, 10, 2)
	for _, k := range []int{11, 22} { // a cluster port, and one of HTTP
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+k))
		require.NoError(t, err)
		go func() { // not a broker: it hangs up on whoever asks
			for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
				conn.Close()
			}
		}()
		r := run(t, "", nil, "cluster", "local", "--data", t.TempDir(), "--port", fmt.Sprint(port))
		require.NoError(t, l.Close())
		require.Equal(t, exitInUse, r.code, r.stderr)
		require.Empty(t, string(r.stdout))
		require.Contains(t, r.stderr, fmt.Sprintf("broker %d has ended before the cluster was ready: the address 127.0.0.1:%d is in use", k/10+1, port+k))
	}
}

// Two brokers do not survive the loss of one, and nobody is asked to try.
func TestClusterLocalOfTwo(t *testing.T) {
	p := start(t, "", "cluster", "local", "--brokers", "2", "--data", t.TempDir(), "--port", fmt.Sprint(freePorts(t, 2, 10, 2)))
	banner, up := p.stdout.until(func(s string) bool { return strings.Contains(s, "Ctrl-C stops all") })
	require.True(t, up, "%s", p.stderr.bytes())
	require.Contains(t, banner, "A cluster of 2 brokers is ready")
	require.NotContains(t, banner, "kill -9")
	p.signal(syscall.SIGINT)
	require.Equal(t, exitOK, p.wait().code)
}
