package controller

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// A transcript tells an incident: commands, "----", what the controller did, an empty
// line. Lines that begin with # are for the reader.
type step struct {
	comments, commands []string
	output             string
}

func readTranscript(t *testing.T, data string) (steps []step) {
	for _, block := range strings.Split(strings.TrimSpace(data), "\n\n") {
		head, output, _ := strings.Cut(block+"\n", "----\n")
		var s step
		for _, line := range strings.Split(strings.TrimSpace(head), "\n") {
			if strings.HasPrefix(line, "#") {
				s.comments = append(s.comments, line)
			} else if line != "" {
				s.commands = append(s.commands, line)
			}
		}
		s.output = output
		steps = append(steps, s)
	}
	return steps
}

// play runs a transcript, and returns it with what really happened.
func play(t *testing.T, data string, b Breakage) string {
	w := newWorld(Settings{Break: b, BalanceAfter: -1})
	var out strings.Builder
	for _, s := range readTranscript(t, data) {
		for _, c := range s.comments {
			fmt.Fprintln(&out, c)
		}
		if len(s.commands) == 0 {
			fmt.Fprintln(&out)
			continue
		}
		w.lines = nil
		for _, c := range s.commands {
			fmt.Fprintln(&out, c)
			require.NoError(t, w.command(c), c)
		}
		fmt.Fprintln(&out, "----")
		for _, line := range append(w.lines, w.problems...) {
			fmt.Fprintln(&out, line)
		}
		fmt.Fprintln(&out)
	}
	return strings.TrimSpace(out.String()) + "\n"
}

func number(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		panic(err)
	}
	return uint32(n)
}

// at reads "topic/3".
func (w *world) at(s string) place {
	name, n, _ := strings.Cut(s, "/")
	t, ok := w.m.Topic(name)
	if !ok {
		panic("no topic " + name)
	}
	return place{t.ID, number(n)}
}

// command carries out one line of a transcript.
func (w *world) command(line string) error {
	f := strings.Fields(line)
	arg := func(i int) uint32 { return number(f[i]) }
	switch f[0] {
	case "settings":
		for _, s := range f[1:] {
			name, value, _ := strings.Cut(s, "=")
			d, err := time.ParseDuration(value)
			switch name {
			case "balance":
				w.c.s.BalanceAfter = d
			case "replace":
				w.c.s.ReplaceAfter = d
			case "moves":
				w.c.s.MovesPerBroker = int(number(value))
				err = nil
			}
			if err != nil {
				return err
			}
		}
		w.s = w.c.s
	case "start": // start 1 2 3 [rack=a]
		rack, given := strings.CutPrefix(f[len(f)-1], "rack=")
		if given {
			f = f[:len(f)-1]
		} else {
			rack = ""
		}
		for _, a := range f[1:] {
			w.start(number(a), rack)
		}
	case "kill":
		for _, a := range f[1:] {
			w.kill(number(a))
		}
	case "restart": // so fast that nobody notices but by the registration
		w.brokers[arg(1)].up, w.brokers[arg(1)].registered = false, false
		w.start(arg(1), "")
	case "reset-probe":
		w.reset = arg(1)
	case "pause":
		w.brokers[arg(1)].paused = true
	case "resume":
		w.brokers[arg(1)].paused = false
	case "cut":
		w.brokers[arg(1)].away = true
	case "heal":
		w.brokers[arg(1)].away = false
	case "disconnect":
		w.c.Disconnected(w.now, arg(1))
	case "wipe":
		w.kill(arg(1))
		w.newDisk(w.brokers[arg(1)])
	case "slow":
		w.brokers[arg(1)].slow = true
	case "fast":
		w.brokers[arg(1)].slow = false
	case "full":
		w.brokers[arg(1)].full = true
	case "space":
		w.brokers[arg(1)].full = false
	case "append": // append orders/0 3
		p := w.at(f[1])
		l := w.holder(w.meta(p).Leader).at(p)
		for range arg(2) {
			l.log = append(l.log, w.meta(p).Epoch)
		}
	case "damage", "repair": // damage orders/0 2
		w.brokers[arg(2)].at(w.at(f[1])).suspect = f[0] == "damage"
	case "topic": // topic orders 4 3
		return w.createTopic(f[1], arg(2), int(arg(3)))
	case "replication": // replication orders 5
		w.alterReplication(f[1], int(arg(2)))
	case "controller":
		w.change()
	case "raft":
		w.raft = f[1] == "on"
	case "stall": // the controller's own process stands still; the others' heartbeats wait
		d, err := time.ParseDuration(f[1])
		w.now += d
		return err
	case "leaving":
		w.lastReply++
		w.c.Leaving(w.now, w.lastReply, arg(1))
	case "drain", "remove", "add", "rebalance", "cancel":
		r := Request{Action: Action(f[0])}
		if len(f) > 1 {
			r.Node = arg(1)
		}
		w.order(r)
	case "move-leader": // move-leader orders/0 2
		p := w.at(f[1])
		w.order(Request{Action: MoveLeader, Topic: p.topic, Partition: p.partition, Node: arg(2)})
	case "run":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			return err
		}
		w.run(d)
	case "quietly":
		lines := w.lines
		err := w.command(strings.Join(f[1:], " "))
		w.lines = lines
		return err
	case "show":
		w.lines = append(w.lines, w.state()...)
	case "brokers":
		for _, b := range w.c.Status(w.now).Brokers {
			role := ""
			if b.Voter {
				role = " voter"
			}
			w.lines = append(w.lines, fmt.Sprintf("broker %d#%d %s%s leads %d, replicas %d", b.Node, b.Disk, b.State, role, b.Leaders, b.Replicas))
		}
	case "moves":
		for _, m := range w.c.Status(w.now).Moves {
			w.lines = append(w.lines, fmt.Sprintf("%s/%d %s: %s, add %v, drop %v", m.Topic, m.Partition, m.Reason, m.Stage, m.Add, m.Drop))
		}
	default:
		return fmt.Errorf("unknown command")
	}
	return nil
}

func transcripts(t *testing.T) []string {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

func TestTranscripts(t *testing.T) {
	for _, file := range transcripts(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			got := play(t, string(data), Breakage{})
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
			}
			require.Equal(t, string(data), got)
			require.Equal(t, got, play(t, string(data), Breakage{}), "the same events must give the same effects")
		})
	}
}
