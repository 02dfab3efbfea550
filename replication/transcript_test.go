package replication

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what the machines answer into testdata")

// Transcripts are testdata/*.txt. A line that begins with "> " is an event, the lines
// after it are what the machine answers, "#" begins a comment.
//
//	> lead self=1 epoch=2 set=1,2,3 start=4 end=4 hw=3
//	> append 6
//	> report 2 epoch=2 durable=6
//	> fence 3
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

// play returns the transcript with the answers of the machine in the place of those
// that are there.
func play(text string) string {
	var out strings.Builder
	var leader *Leader
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "> "):
			out.WriteString(line)
			out.WriteString(event(&leader, strings.Fields(line[2:])) + "\n")
		case line == "\n" || strings.HasPrefix(line, "#"):
			out.WriteString(line)
		}
	}
	return out.String()
}

func event(leader **Leader, words []string) string {
	args := map[string]string{}
	var plain []string
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			args[k] = v
		} else {
			plain = append(plain, w)
		}
	}
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			panic(fmt.Sprintf("%v: %v", words, err))
		}
		return n
	}
	nodes := func(s string) (ids []Member) {
		for part := range strings.SplitSeq(s, ",") {
			if part != "" {
				ids = append(ids, member1(int(number(part))))
			}
		}
		return ids
	}
	if words[0] == "lead" {
		var epochs []EpochStart
		if start := number(args["start"]); start < number(args["end"]) {
			epochs = []EpochStart{{uint32(number(args["epoch"])), start}}
		}
		l, err := NewLeader(LeaderConfig{Epochs: epochs,
			Self: member1(int(number(args["self"]))), Epoch: uint32(number(args["epoch"])),
			Set: ReplicaSet{Members: nodes(args["set"]), Joining: nodes(args["joining"])},
			End: number(args["end"]), HighWatermark: number(args["hw"]),
		})
		if err != nil {
			return "refused: " + err.Error()
		}
		*leader = l
		return state(l)
	}
	l := *leader
	var err error
	switch words[0] {
	case "append":
		err = l.Appended(number(plain[0]))
	case "report":
		before := l.HighWatermark()
		err = tell(l, member1(int(number(plain[0]))), uint32(number(args["epoch"])), number(args["durable"]))
		if err == nil && l.HighWatermark() > before {
			return state(l) + " (committed)"
		}
	case "fence":
		l.Fence(uint32(number(plain[0])))
	default:
		panic("unknown event " + words[0])
	}
	if err != nil {
		return "refused: " + err.Error()
	}
	return state(l)
}

func state(l *Leader) string {
	s := fmt.Sprintf("epoch %d end %d high watermark %d", l.Epoch(), l.End(), l.HighWatermark())
	if l.Fenced() != 0 {
		s += fmt.Sprintf(" fenced by %d", l.Fenced())
	}
	return s
}
