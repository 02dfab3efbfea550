package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/cmd/broker/internal/format"
)

// consumeFlags is the command line of broker consume.
type consumeFlags struct {
	from        string
	partitions  []int
	count       int64
	follow      bool
	format      string
	timeout     time.Duration
	skipCorrupt bool
}

// consumeOptions is what the flags mean.
type consumeOptions struct {
	topic       string
	from        sequitur.Position
	byOffset    bool // from is offset
	offset      int64
	partitions  []int32
	count       int64 // -1: all
	follow      bool
	template    *format.Template // nil: JSON
	timeout     time.Duration    // 0: none
	skipCorrupt bool
}

func (c *cli) consumeCommand() *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print records",
		Long: `Prints records to standard output, byte for byte: by default the value and a LF.
Without --follow it stops at the end that each partition had at the start.
Records of a partition come in order; partitions are interleaved.

--format verbs and escapes:

` + format.Help,
		Example: `  broker consume greetings
  broker consume orders --follow --from end
  broker consume orders --partition 3 --from 1200 --count 10
  broker consume orders --from 2026-01-31T08:00:00Z --format '%p %o %k %v\n'
  broker consume orders --json | jq -r .key`,
		Args: names(1, 1, "the name of a topic"),

		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(cmd, args[0], c.json)
			if err != nil {
				return err
			}
			return c.consume(o)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.from, "from", "start", "first record to print, a `POSITION`: start, end, an offset, or a time of append such as 2026-01-31T08:00:00Z")
	flags.IntSliceVarP(&f.partitions, "partition", "p", nil, "read partition `N` only; repeatable")
	flags.Int64VarP(&f.count, "count", "n", -1, "stop after `N` records")
	flags.BoolVarP(&f.follow, "follow", "f", false, "wait for more records at the end, until Ctrl-C")
	flags.StringVar(&f.format, "format", format.Default, "how to print a record, a `TEMPLATE` as above")
	flags.DurationVar(&f.timeout, "timeout", 0, "give up when no record comes for this long")
	flags.BoolVar(&f.skipCorrupt, "skip-corrupt", false, "read on behind damaged records, and say on standard error which were left out")
	c.jsonFlag(cmd, "print one JSON object per record; what is not UTF-8 as base64")
	c.serverFlag(cmd)
	completeFlag(cmd, "from", "start", "end")
	flags.Lookup("format").DefValue = ""
	flags.Lookup("format").Usage += ` (default '%v\n')`
	flags.Lookup("count").DefValue = "0" // so that help shows no default
	return cmd
}

func (f *consumeFlags) options(cmd *cobra.Command, topic string, asJSON bool) (consumeOptions, error) {
	o := consumeOptions{
		topic: topic, count: f.count, follow: f.follow,
		timeout: f.timeout, skipCorrupt: f.skipCorrupt,
	}
	var err error
	if o.from, err = parseFrom(f.from); err != nil {
		return o, err
	}
	o.offset, o.byOffset = parseOffset(f.from)
	for _, p := range f.partitions {
		if p < 0 {
			return o, usagef("partitions are counted from 0", "--partition %d", p)
		}
		o.partitions = append(o.partitions, int32(min(p, math.MaxInt32)))
	}
	if cmd.Flags().Changed("count") && f.count < 0 {
		return o, usagef("leave --count out for all records", "--count %d is below zero", f.count)
	}
	if cmd.Flags().Changed("timeout") && f.timeout <= 0 {
		return o, usagef("for example: --timeout 10s", "--timeout %s is not above zero", f.timeout)
	}
	if asJSON && cmd.Flags().Changed("format") {
		return o, usagef("choose one of them", "--json and --format exclude each other")
	}
	if !asJSON {
		if o.template, err = format.Parse(f.format); err != nil {
			return o, usagef("verbs and escapes:\n"+format.Help, "--format: %v", err)
		}
	}
	if err := sequitur.ValidateTopicName(topic); err != nil {
		return o, usagef("", "%s", withoutCode(err))
	}
	return o, nil
}

// parseFrom reads start, end, an offset, or a time.
func parseFrom(s string) (sequitur.Position, error) {
	switch strings.ToLower(s) {
	case "start":
		return sequitur.Start(), nil
	case "end":
		return sequitur.End(), nil
	}
	if n, ok := parseOffset(s); ok {
		return sequitur.Offset(n), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, strings.Replace(s, " ", "T", 1)); err == nil {
		return sequitur.At(t), nil
	}
	return sequitur.Start(), usagef("use start, end, an offset such as 1200, or a time with its zone such as 2026-01-31T08:00:00Z", "--from %q is no position", s)
}

func parseOffset(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0
}

// consume prints records until what the options ask for is done.
func (c *cli) consume(o consumeOptions) error {
	ctx, stop := c.interruptible(context.Background())
	defer stop()
	defer ignoreBrokenPipe()()
	client, err := c.connect(ctx, sequitur.WithHooks(newNoticeHooks(c, c.say)))
	if err != nil {
		return err
	}
	defer client.Close()
	consumer, err := c.open(ctx, client, &o)
	if err != nil {
		if interrupted(ctx) {
			return errInterrupted
		}
		return c.hintTopic(ctx, client, err)
	}
	defer consumer.Close()
	out := bufio.NewWriterSize(c.stdout, 256<<10)
	err = c.print(ctx, consumer, &o, out)
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	switch {
	case errors.Is(err, syscall.EPIPE):
		return nil // the reader has seen enough
	case interrupted(ctx) && o.follow && o.count < 0:
		return nil // the way to end a --follow
	case interrupted(ctx):
		return errInterrupted
	}
	return c.explainPosition(ctx, client, err)
}

// open checks what is to be read and makes the consumer.
func (c *cli) open(ctx context.Context, client *sequitur.Client, o *consumeOptions) (*sequitur.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	t, err := client.DescribeTopic(ctx, o.topic)
	if err != nil {
		return nil, err
	}
	n := t.Config.Partitions
	for _, p := range o.partitions {
		if uint32(p) >= n {
			return nil, fail(exitNotFound, fmt.Sprintf("its partitions are 0 to %d", n-1), "topic %s has no partition %d", o.topic, p)
		}
	}
	if o.byOffset && n > 1 && len(o.partitions) != 1 {
		return nil, usagef(fmt.Sprintf("name the partition with --partition 0 to %d", n-1),
			"--from OFFSET needs one partition: topic %s has %d, each with its own offsets", o.topic, n)
	}
	if o.byOffset {
		if err := offsetExists(ctx, client, o); err != nil {
			return nil, err
		}
	}
	opts := []sequitur.ConsumerOption{sequitur.From(o.from)}
	if len(o.partitions) > 0 {
		opts = append(opts, sequitur.WithPartitions(o.partitions...))
	}
	if !o.follow {
		opts = append(opts, sequitur.UntilEnd())
	}
	if o.skipCorrupt {
		opts = append(opts, sequitur.WithSkipCorrupt())
	}
	return client.NewConsumer(ctx, []string{o.topic}, opts...)
}

// print writes records until the end, the count or the timeout is reached.
func (c *cli) print(ctx context.Context, consumer *sequitur.Consumer, o *consumeOptions, out *bufio.Writer) error {
	records := make([]sequitur.Record, 1024)
	var line []byte
	for left := o.count; left != 0; {
		want := records
		if left > 0 && left < int64(len(want)) {
			want = want[:left]
		}
		n, err := pollWithin(ctx, consumer, want, o.timeout)
		for i := range want[:n] {
			if line = line[:0]; o.template != nil {
				line = o.template.Append(line, &want[i])
			} else {
				line = format.AppendJSON(line, &want[i])
			}
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
		// The next poll may wait: what is printed must be seen now.
		if err := out.Flush(); err != nil {
			return err
		}
		if left > 0 {
			left -= int64(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && o.timeout > 0 {
			if o.follow && o.count < 0 {
				return nil // nothing more was promised
			}
			return fail(exitTimeout, "the broker may be unreachable or, with --follow, nothing more is produced", "no record came for %s", o.timeout)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pollWithin waits for the next records, with a timeout above zero only so long.
func pollWithin(ctx context.Context, consumer *sequitur.Consumer, records []sequitur.Record, timeout time.Duration) (int, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return consumer.Poll(ctx, records)
}

// holeText names the file of damaged records, if the broker can be asked.
func holeText(ctx context.Context, client *sequitur.Client, at *sequitur.Error) string {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	t, err := client.DescribeTopic(ctx, at.Topic)
	if err != nil || at.Partition < 0 || int(at.Partition) >= len(t.Stats) {
		return ""
	}
	for _, h := range t.Stats[at.Partition].Holes {
		if h.From < at.To && at.From < h.To {
			return fmt.Sprintf("the damage is in %s at byte %d; restore that file from a copy", h.File, h.Position)
		}
	}
	return ""
}

// offsetExists refuses an offset that the partition does not hold; its end may
// be asked for, to wait for what comes there.
func offsetExists(ctx context.Context, client *sequitur.Client, o *consumeOptions) error {
	start, err := client.ListOffsets(ctx, o.topic, sequitur.Start(), o.partitions...)
	if err != nil {
		return err
	}
	end, err := client.ListOffsets(ctx, o.topic, sequitur.End(), o.partitions...)
	if err != nil {
		return err
	}
	if len(start) != 1 || len(end) != 1 || o.offset >= start[0].Offset && o.offset <= end[0].Offset {
		return nil
	}
	return outOfRange(o.topic, start[0].Partition, start[0].Offset, end[0].Offset)
}

func outOfRange(topic string, partition int32, start, end int64) error {
	const todo = "choose --from between them, or --from start"
	if end <= start {
		return fail(exitNotFound, "choose --from start", "topic %s, partition %d is empty; its next offset is %d", topic, partition, end)
	}
	return fail(exitNotFound, todo, "topic %s, partition %d holds offsets %d to %d only", topic, partition, start, end-1)
}

// explainPosition adds a way out to errors about a place in a partition.
func (c *cli) explainPosition(ctx context.Context, client *sequitur.Client, err error) error {
	var remote *sequitur.Error
	if !errors.As(err, &remote) {
		return err
	}
	switch {
	case errors.Is(err, sequitur.ErrCorrupt):
		f := *c.explain(err)
		f.what = fmt.Sprintf("topic %s, partition %d: offsets %d to %d are damaged on disk and are not served", remote.Topic, remote.Partition, remote.From, remote.To-1)
		f.todo = "read on behind them with --skip-corrupt"
		if where := holeText(ctx, client, remote); where != "" {
			f.todo = where + "\n" + f.todo
		}
		return &f
	case errors.Is(err, sequitur.ErrOffsetOutOfRange):
		return outOfRange(remote.Topic, remote.Partition, remote.From, remote.To)
	}
	return err
}
