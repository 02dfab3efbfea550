package main

import (
	"bytes"
	"fmt"
	"io"
	"text/tabwriter"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// The shapes of --json; their field names are part of the interface.
type (
	topicJSON struct {
		Name       string               `json:"name"`
		UUID       string               `json:"uuid"`
		Internal   bool                 `json:"internal"`
		Config     sequitur.TopicConfig `json:"config"`
		Partitions []partitionJSON      `json:"partitions"`
	}
	partitionJSON struct {
		Partition int        `json:"partition"`
		Leader    uint32     `json:"leader"`
		Epoch     uint32     `json:"epoch"`
		Replicas  []uint32   `json:"replicas"`
		Start     int64      `json:"start"`
		End       int64      `json:"end"`
		Bytes     uint64     `json:"bytes"`
		Segments  uint32     `json:"segments"`
		Damaged   []holeJSON `json:"damaged"`
		// Lag is by how many offsets replicas are behind the leader, by node;
		// those that could not be asked are missing.
		Lag map[uint32]int64 `json:"lag,omitempty"`
	}
	holeJSON struct {
		From     int64  `json:"from"`
		To       int64  `json:"to"`
		File     string `json:"file"`
		Position int64  `json:"position"`
	}
)

func topicShape(t *sequitur.TopicDescription) topicJSON {
	out := topicJSON{Name: t.Name, UUID: t.UUID.String(), Internal: t.Internal, Config: t.Config, Partitions: []partitionJSON{}}
	for i := range t.Stats {
		s := &t.Stats[i]
		p := partitionJSON{
			Partition: i, Replicas: []uint32{},
			Start: s.Start, End: s.End, Bytes: s.Bytes, Segments: s.Segments, Damaged: []holeJSON{},
		}
		if i < len(t.Partitions) {
			m := &t.Partitions[i]
			p.Leader, p.Epoch = m.Leader, m.Epoch
			p.Replicas = append(p.Replicas, m.Replicas...)
		}
		for _, h := range s.Holes {
			p.Damaged = append(p.Damaged, holeJSON(h))
		}
		out.Partitions = append(out.Partitions, p)
	}
	return out
}

// totals adds up what a topic's partitions hold.
func totals(t *sequitur.TopicDescription) (records int64, bytes uint64, holes int) {
	for i := range t.Stats {
		s := &t.Stats[i]
		records += s.End - s.Start
		bytes += s.Bytes
		holes += len(s.Holes)
	}
	return records, bytes, holes
}

// table prints cells that do separates by tabs, in columns.
func (c *cli) table(do func(w io.Writer)) error {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	do(w)
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range bytes.Lines(b.Bytes()) {
		if _, err := fmt.Fprintf(c.stdout, "%s\n", bytes.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func (c *cli) printTopics(topics []sequitur.TopicDescription) error {
	if c.json {
		shapes := make([]topicJSON, len(topics))
		for i := range topics {
			shapes[i] = topicShape(&topics[i])
		}
		return c.printJSON(shapes)
	}
	if len(topics) == 0 {
		c.say("no topics yet; create one with: %s topic create NAME", c.invoked())
		return nil
	}
	return c.table(func(w io.Writer) {
		fmt.Fprint(w, "NAME\tPARTITIONS\tOFFSETS\tSIZE\tFSYNC\tCLEANUP\tRETENTION\tDAMAGED\n")
		for i := range topics {
			t := &topics[i]
			records, bytes, holes := totals(t)
			retention := durationText(t.Config.RetentionTime)
			if t.Config.RetentionTime == 0 {
				retention = "forever"
			}
			if t.Config.RetentionBytes > 0 {
				retention += ", " + sizeText(t.Config.RetentionBytes)
			}
			if t.Config.Cleanup.String() == "compact" {
				retention = "-"
			}
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", t.Name, t.Config.Partitions, records, roundSize(bytes),
				t.Config.Fsync, t.Config.Cleanup, retention, damageText(holes))
		}
	})
}

func damageText(holes int) string {
	switch holes {
	case 0:
		return "no"
	case 1:
		return "1 place"
	}
	return fmt.Sprintf("%d places", holes)
}

func (c *cli) printTopic(t *sequitur.TopicDescription, lags lags) error {
	if c.json {
		shape := topicShape(t)
		for i := range lags {
			shape.Partitions[i].Lag = lags[i]
		}
		return c.printJSON(shape)
	}
	defaults := sequitur.DefaultTopicConfig()
	if err := c.table(func(w io.Writer) {
		fmt.Fprintf(w, "topic\t%s\nuuid\t%s\n", t.Name, t.UUID) // no third cell: a column of their own
		for _, f := range sequitur.TopicFields() {
			value, note := fieldText(f, &t.Config), ""
			if value == "" {
				continue
			}
			if f.Get(&t.Config) == f.Get(&defaults) {
				note = "(default)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, value, note)
		}
	}); err != nil {
		return err
	}
	fmt.Fprintln(c.stdout)
	if err := c.table(func(w io.Writer) {
		fmt.Fprint(w, "PARTITION\tSTART\tEND\tOFFSETS\tSIZE\tSEGMENTS\tDAMAGED")
		if lags != nil {
			fmt.Fprint(w, "\tLEADER\tEPOCH\tREPLICAS")
		}
		fmt.Fprintln(w)
		for i := range t.Stats {
			s := &t.Stats[i]
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%s\t%d\t%s", i, s.Start, s.End, s.End-s.Start, roundSize(s.Bytes), s.Segments, damageText(len(s.Holes)))
			if lags != nil {
				m := &t.Partitions[i]
				fmt.Fprintf(w, "\t%s\t%d\t%s", leaderText(m.Leader), m.Epoch, replicasText(m.Replicas, lags[i]))
			}
			fmt.Fprintln(w)
		}
	}); err != nil {
		return err
	}
	for i := range t.Stats {
		for _, h := range t.Stats[i].Holes {
			fmt.Fprintf(c.stdout, "damaged: partition %d, offsets %d to %d, in %s at byte %d\n", i, h.From, h.To-1, h.File, h.Position)
		}
	}
	return nil
}
