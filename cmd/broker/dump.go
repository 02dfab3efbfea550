package main

import (
	"bufio"
	"errors"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sequitur-mq/sequitur/log"
)

func (c *cli) logCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "log",
		Short: "Look into single files of a data directory",
	}, (*cobra.Command).Help)
	cmd.AddCommand(c.logDump())
	return cmd
}

func (c *cli) logDump() *cobra.Command {
	var o log.DumpOptions
	cmd := &cobra.Command{
		Use:   "dump FILE",
		Short: "Print a file of a data directory readably",
		Long: `Prints a segment (.log), an index (.idx), a journal file (.jnl), the checkpoint,
the identity, or a producers file, one line per batch, entry or fact. It changes
nothing and may run beside the broker. Damage is named by byte, the rest is
printed all the same, and the exit code is 5.`,
		Example: `  broker log dump data/identity
  broker log dump data/journal/0001.jnl --limit 10
  broker log dump data/partitions/TOPIC-UUID/0/00000000000000000000.log --records`,
		Args: names(1, 1, "a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.MaxBytes == 0 || o.From < 0 || o.Limit < 0 {
				return usagef(seeHelp(cmd), "--max-bytes must not be 0, --from and --limit not below 0")
			}
			return c.dump(args[0], o)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&o.Records, "records", false, "print the records of every batch too")
	flags.IntVar(&o.MaxBytes, "max-bytes", 64, "print `N` bytes of a key or value; -1: all")
	flags.Int64Var(&o.From, "from", 0, "start at byte `N` of a segment, with the next batch there")
	flags.Int64Var(&o.Limit, "limit", 0, "stop after `N` batches or journal groups")
	return cmd
}

func (c *cli) dump(file string, o log.DumpOptions) error {
	defer ignoreBrokenPipe()()
	out := bufio.NewWriter(c.stdout)
	err := log.Dump(out, file, o)
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	switch {
	case errors.Is(err, syscall.EPIPE):
		return nil // the reader has seen enough
	case errors.Is(err, fs.ErrNotExist):
		return fail(exitNotFound, "", "there is no file %q", file)
	case errors.Is(err, log.ErrCorrupt):
		return fail(exitCorrupt, "verify the whole directory with: "+c.invoked()+" check DIR", "%s is damaged, see above", file)
	}
	return err
}
