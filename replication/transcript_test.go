package replication

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what the machines answer into testdata")

// Transcripts are testdata/*.txt. A line that begins with "> " is an event, the lines
// after it are what the machines answer, "#" begins a comment. Members are written
// "2", or "2#7" with the number of their disk, logs as the epochs of their records.
//
//	> replica 1 log=1,1,2 fence=2 durable=2 hw=1 start=0 suspect solo
//	> fence 1 epoch=3                 adopt an epoch
//	> election epoch=3 members=1,2,3 joining=1,2,4 learners=5
//	> vote 1                          and count it
//	> assign 1 epoch=3 leader=1 members=1,2,3
//	> append 1 2                      so many records
//	> sync 1 to=4                     fsynced, the whole log without to
//	> fetch 2                         to the leader; the answer is kept
//	> deliver 2 records=1             hand the kept answer to the follower, as often as one likes
//	> replicate 2 to=5                fetch, deliver and sync until there is no more
//	> restart 1                       what was not fsynced is lost
//	> retain 1 start=4
//	> round 1                         begin a round
//	> damage 1 from=2
//	> repaired 1
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			got := play(string(text))
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
			}
			require.Equal(t, string(text), got)
		})
	}
}

// play returns the transcript with the answers of the machines in the place of those
// that are there.
func play(text string) string {
	var out strings.Builder
	w := world{replicas: map[Member]*replicaInTest{}}
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "> "):
			out.WriteString(line)
			answer := w.event(line[2:])
			out.WriteString(answer + "\n")
		case line == "\n" || strings.HasPrefix(line, "#"):
			out.WriteString(line)
		}
	}
	return out.String()
}

// replicaInTest is a replica with its log and the last answer to it.
type replicaInTest struct {
	*Replica
	log    []uint32 // epochs of the records
	lost   int64    // offset below which records are gone
	answer Answer
	data   Data
	recs   []uint32
}

type world struct {
	replicas map[Member]*replicaInTest
	election *Election
}

// command is one line, taken apart.
type command struct {
	name  string
	who   Member
	count int64
	args  map[string]string
}

func parse(line string) command {
	words := strings.Fields(line)
	c := command{name: words[0], args: map[string]string{}, count: 1}
	for i, w := range words[1:] {
		k, v, ok := strings.Cut(w, "=")
		switch {
		case ok:
			c.args[k] = v
		case i == 0 && w[0] >= '0' && w[0] <= '9':
			c.who = parseMember(w)
		case w[0] >= '0' && w[0] <= '9':
			c.count = number(w)
		default:
			c.args[w] = "yes"
		}
	}
	return c
}

func number(s string) int64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func parseMember(s string) Member {
	node, disk, _ := strings.Cut(s, "#")
	return Member{Node: uint32(number(node)), Disk: uint32(number(disk))}
}

func parseMembers(s string) (list []Member) {
	for part := range strings.SplitSeq(s, ",") {
		if part != "" {
			list = append(list, parseMember(part))
		}
	}
	return list
}

func (c command) number(key string) int64 { return number(c.args[key]) }
func (c command) epoch() uint32           { return uint32(c.number("epoch")) }
func (c command) set() ReplicaSet {
	return ReplicaSet{
		Members: parseMembers(c.args["members"]), Joining: parseMembers(c.args["joining"]),
		Learners: parseMembers(c.args["learners"]),
	}
}

// or returns the number given, or another one if there is none.
func (c command) or(key string, otherwise int64) int64 {
	if _, ok := c.args[key]; ok {
		return c.number(key)
	}
	return otherwise
}

func (w *world) event(line string) string {
	c := parse(line)
	r := w.replicas[c.who]
	var said string
	var err error
	switch c.name {
	case "replica":
		r, err = newReplicaInTest(c)
		w.replicas[c.who] = r
	case "election":
		w.election = NewElection(c.epoch(), c.set())
		return fmt.Sprintf("waiting for a majority of %v", describe(c.set()))
	case "vote":
		return w.vote(r.Vote())
	case "fence":
		var persist bool
		persist, err = r.Fence(c.epoch())
		said = "already persisted; "
		if persist {
			said = "to be persisted; "
		}
	case "assign":
		said, err = w.assign(r, c)
	case "append":
		err = r.append(int(c.count))
	case "sync":
		_, err = r.Durable(c.or("to", r.End()))
	case "fetch":
		said, err = w.fetch(r)
	case "deliver":
		said, err = r.deliver(c)
	case "replicate":
		err = w.replicate(r, c.or("to", 1<<40))
	case "restart":
		err = r.restart()
	case "retain":
		err = r.AdvanceStart(c.number("start"))
	case "round":
		if l := r.Leader(); l != nil {
			return fmt.Sprintf("round %d started, done is %d", l.StartRound(), l.RoundDone())
		}
	case "damage":
		r.SetDamage(c.number("from"))
	case "repaired":
		r.SetSuspect(false)
	default:
		panic("unknown event " + line)
	}
	if err != nil {
		return "refused: " + err.Error()
	}
	return said + r.state()
}

func newReplicaInTest(c command) (*replicaInTest, error) {
	r := &replicaInTest{lost: c.number("start")}
	for range r.lost {
		r.log = append(r.log, 0)
	}
	for e := range strings.SplitSeq(c.args["log"], ",") {
		if e != "" {
			r.log = append(r.log, uint32(number(e)))
		}
	}
	m, err := NewReplica(ReplicaConfig{
		Self: c.who, Fence: uint32(c.number("fence")), Epochs: epochsOf(r.log)[min(1, int(r.lost)):],
		Start: r.lost, End: int64(len(r.log)), Durable: c.or("durable", int64(len(r.log))), HighWatermark: c.number("hw"),
		Suspect: c.args["suspect"] != "", Solo: c.args["solo"] != "",
	})
	r.Replica = m
	return r, err
}

func (r *replicaInTest) restart() error {
	r.log = r.log[:r.DurableEnd()]
	var epochs []EpochStart
	for _, e := range epochsOf(r.log) {
		if e.Epoch > 0 {
			epochs = append(epochs, e)
		}
	}
	m, err := NewReplica(ReplicaConfig{
		Self: r.Self(), Fence: r.FenceEpoch(), Epochs: epochs, Start: r.Start(), End: int64(len(r.log)),
		Durable: int64(len(r.log)), HighWatermark: r.Start(), Suspect: r.Suspect(),
	})
	r.Replica = m
	return err
}

func (w *world) vote(v Vote) string {
	said := fmt.Sprintf("%v votes in epoch %d: last epoch %d, end %d", v.From, v.Epoch, v.LastEpoch, v.End)
	if v.Suspect {
		said += ", suspect"
	}
	w.election.Add(v)
	if winner, ok := w.election.Winner(); ok {
		return said + fmt.Sprintf("; %v wins", winner)
	}
	return said + "; no majority yet"
}

func (w *world) assign(r *replicaInTest, c command) (string, error) {
	effect, err := r.Assign(c.epoch(), parseMember(c.args["leader"]), c.set())
	if err != nil {
		return "", err
	}
	if effect == BecomeLeader && !r.solo {
		return "", r.append(1) // the start record
	}
	return [...]string{"nothing changes; ", "", "", "steps down; "}[effect], nil
}

func (r *replicaInTest) append(n int) error {
	l := r.Leader()
	if l == nil {
		return errors.New("does not lead")
	}
	if err := l.Appended(l.End() + int64(n)); err != nil {
		return err
	}
	for range n {
		r.log = append(r.log, l.Epoch())
	}
	return nil
}

func (w *world) fetch(r *replicaInTest) (string, error) {
	f := r.Follower()
	if f == nil {
		return "", errors.New("does not follow")
	}
	n := f.Next()
	said := fmt.Sprintf("%v asks %v in epoch %d from %d after epoch %d, durable %d\n", n.From, f.Leader(), n.Epoch, n.Offset, n.LastEpoch, n.Durable)
	leader := w.replicas[f.Leader()]
	l := leader.Leader()
	if l == nil {
		r.answer = Answer{}
		return said + "who does not lead; ", nil
	}
	a, err := l.Fetch(n)
	if err != nil {
		return "", err
	}
	r.answer, r.data, r.recs = a, Data{}, nil
	switch a.Kind {
	case Ignore:
		said += "no answer\n"
	case Send:
		r.data = l.Data(a.Offset, l.End())
		r.recs = slices.Clone(leader.log[a.Offset:])
		said += fmt.Sprintf("answer: records [%d, %d), high watermark %d, round %d", a.Offset, l.End(), l.HighWatermark(), l.Round())
		if a.Advanced {
			said += " (committed)"
		}
		said += "\n"
	case Truncate:
		said += fmt.Sprintf("answer: the logs differ; greatest common epoch %d ends at %d\n", a.CommonEpoch, a.Offset)
	case Reset:
		said += fmt.Sprintf("answer: begin anew at %d\n", a.Offset)
	}
	return said, nil
}

func (r *replicaInTest) deliver(c command) (string, error) {
	f := r.Follower()
	if f == nil {
		return "does not follow; ", nil
	}
	switch r.answer.Kind {
	case Truncate:
		before := f.End()
		to, err := f.Truncate(r.answer.CommonEpoch, r.answer.Offset)
		if err == nil && to == before {
			return "too late; ", nil
		}
		r.log = r.log[:min(to, int64(len(r.log)))]
		return "", err
	case Reset:
		reset, err := f.Reset(r.answer.Offset)
		if reset {
			r.log = make([]uint32, r.answer.Offset)
		} else if err == nil {
			return "too late; ", nil
		}
		return "", err
	case Send:
		d := r.data
		d.End = min(d.End, d.Base+c.or("records", d.End-d.Base))
		accept, err := f.Receive(d)
		if err != nil {
			return "", err
		}
		if !accept {
			return "nothing to append; ", nil
		}
		for i, e := range r.recs[:d.End-d.Base] {
			if err := f.Appended(e, d.Base+int64(i), d.Base+int64(i)+1); err != nil {
				return "", err
			}
			r.log = append(r.log, e)
		}
	}
	return "", nil
}

// replicate lets a follower catch up, and report that it did.
func (w *world) replicate(r *replicaInTest, to int64) error {
	for range 10 {
		if _, err := w.fetch(r); err != nil {
			return err
		}
		c := command{args: map[string]string{}}
		if end := r.data.Base + int64(len(r.recs)); r.answer.Kind == Send && end > to {
			c.args["records"] = fmt.Sprint(to - r.data.Base)
		}
		if _, err := r.deliver(c); err != nil {
			return err
		}
		if _, err := r.Durable(r.End()); err != nil {
			return err
		}
	}
	return nil
}

func (r *replicaInTest) state() string {
	s := fmt.Sprintf("%v: ", r.Self())
	switch r.Role() {
	case RoleNone:
		s += fmt.Sprintf("waits in epoch %d", r.Epoch())
	case RoleLeader:
		s += fmt.Sprintf("leads epoch %d", r.Epoch())
		if !r.Leader().Serving() {
			s += ", not serving yet"
		}
	case RoleFollower:
		s += fmt.Sprintf("follows %v in epoch %d", r.Follower().Leader(), r.Epoch())
	}
	var epochs []string
	for _, e := range r.log[r.Start():] {
		epochs = append(epochs, fmt.Sprint(e))
	}
	from := ""
	if r.Start() > 0 {
		from = fmt.Sprintf(" from %d", r.Start())
	}
	s += fmt.Sprintf(", log%s [%s] durable %d, high watermark %d", from, strings.Join(epochs, " "), r.DurableEnd(), r.HighWatermark())
	if r.Suspect() {
		s += ", suspect"
	}
	return s
}

func describe(s ReplicaSet) string {
	if len(s.Joining) == 0 {
		return fmt.Sprint(s.Members)
	}
	return fmt.Sprint(s.Members, " and of ", s.Joining)
}
