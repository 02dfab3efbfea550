package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sequitur-mq/sequitur/broker"
	"github.com/sequitur-mq/sequitur/log"
)

func (c *cli) checkCommand() *cobra.Command {
	var records, all bool
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Verify a data directory",
		Long: `Verifies every byte of a data directory and changes nothing: the journal, every
segment's checksums, order and indexes, and that they agree. No broker may run
on it meanwhile.

What is damaged is named by file, byte and offsets, and the exit code is 5. What
a killed broker leaves to be put in order at the next start is no damage; bytes
of a segment that the next start repairs from the journal are named all the same.`,
		Example: "  broker check ./data\n  broker check ./data --records --json",
		Args:    names(1, 1, "a data directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.check(args[0], records, all)
		},
	}
	cmd.Flags().BoolVar(&records, "records", false, "decompress every batch and check each record's structure too")
	cmd.Flags().BoolVar(&all, "all", false, "show notes too: what the next start will put in order")
	c.jsonFlag(cmd, "print the report as a JSON object")
	return cmd
}

func (c *cli) check(dir string, records, all bool) error {
	o := log.CheckOptions{Records: records, Names: broker.PartitionNames}
	if f, ok := c.stderr.(*os.File); ok && isTerminal(f) {
		o.Progress = checkProgress(c, time.Now().Add(progressAfter))
	}
	report, err := log.Check(dir, o)
	if o.Progress != nil {
		fmt.Fprint(c.stderr, "\r\x1b[K")
	}
	if err != nil {
		return c.explainCheck(dir, err)
	}
	if c.json {
		if err := c.printJSON(report); err != nil {
			return err
		}
	} else {
		c.printReport(&report, all)
	}
	if report.Refused != "" {
		return fail(exitCorrupt, "restore the directory from a copy", "%s: damaged in %s; the broker does not start on it", dir, count(report.Damages, "place"))
	}
	if !report.OK() {
		return fail(exitCorrupt, "restore what is damaged from a copy; the broker serves what is around it", "%s: damaged in %s", dir, count(report.Damages, "place"))
	}
	return nil
}

// explainCheck says what to do about a directory that cannot be checked. The
// words agree with what serve makes of it.
func (c *cli) explainCheck(dir string, err error) error {
	const which = "name the directory that broker serve --data was given"
	switch {
	case errors.Is(err, log.ErrLocked):
		return fail(exitInUse, "stop that broker first; a running broker checks its data itself, see topic describe", "%s is in use by a broker", dir)
	case errors.Is(err, log.ErrNoData):
		return fail(exitNotFound, fmt.Sprintf("%s\n%s serve --data %s would begin an empty one there", which, c.invoked(), dir), "%v", err)
	case errors.Is(err, fs.ErrNotExist):
		return fail(exitNotFound, which, "there is no directory %s", dir)
	case errors.Is(err, syscall.ENOTDIR):
		return usagef(which+fmt.Sprintf("\nlook at a single file with: %s log dump %s", c.invoked(), dir), "%s is no directory", dir)
	case errors.Is(err, fs.ErrPermission):
		return fail(exitFailure, "run it as the user that the broker runs as", "%v", err)
	}
	return err
}

func (c *cli) printReport(r *log.Report, all bool) {
	notes := 0
	for _, f := range r.Findings {
		if f.Severity == log.SeverityNote && !f.Repaired && !all {
			notes++
			continue
		}
		fmt.Fprintln(c.stdout, f)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(c.stdout, "and %s more\n", thousands(r.Omitted))
	}
	if r.Refused != "" {
		fmt.Fprintf(c.stdout, "%s: the broker does not start on it\n", r.Dir)
		return
	}
	shutdown := "was not shut down cleanly"
	if r.Clean {
		shutdown = "was shut down cleanly"
	}
	fmt.Fprintf(c.stdout, "%s %s; journal: %s, %s to read at the next start\n", r.Dir, shutdown,
		count(r.JournalFiles, "file"), roundSize(uint64(r.JournalBytes)))
	if notes > 0 {
		fmt.Fprintf(c.stdout, "the next start has %s to put in order (--all shows them)\n", count(int64(notes), "thing"))
	}
	fmt.Fprintf(c.stdout, "checked %s, %s, %s, %s, %s in %.2f s: ", count(r.Partitions, "partition"), count(r.Segments, "segment"),
		count(r.Batches, "batch"), count(r.Records, "record"), roundSize(uint64(r.SegmentBytes)), r.Took.Seconds())
	if r.OK() {
		fmt.Fprintf(c.stdout, "no damage\n")
	} else {
		fmt.Fprintf(c.stdout, "%s\n", count(r.Damages, "damage"))
	}
}

// checkProgress shows how far a check is, from a time on.
func checkProgress(c *cli, next time.Time) func(log.CheckProgress) {
	return func(p log.CheckProgress) {
		if now := time.Now(); now.After(next) && p.Total > 0 {
			next = now.Add(progressTerminal)
			fmt.Fprintf(c.stderr, "\r\x1b[Kchecked %s of %s, %d%%: %s", roundSize(uint64(p.Done)), roundSize(uint64(p.Total)), 100*p.Done/p.Total, p.File)
		}
	}
}
