package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
	"github.com/sequitur-mq/sequitur/cmd/broker/internal/format"
	"github.com/sequitur-mq/sequitur/cmd/broker/internal/lines"
)

// produceFlags is the command line of broker produce.
type produceFlags struct {
	file        string
	keyRegex    string
	keyField    int
	delimiter   string
	partition   int32
	headers     []string
	acks        string
	compression string
	timeout     time.Duration
	printAcks   bool
	quiet       bool
}

// produceOptions is what the flags mean.
type produceOptions struct {
	topic     string
	key       lines.Key
	headers   []sequitur.Header
	partition int32 // -1: by key
	acks      sequitur.Acks
	codec     sequitur.Codec
	timeout   time.Duration
	printAcks bool
	quiet     bool
}

func (c *cli) produceCommand() *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Send lines as records",
		Long: `Sends one record per line, from standard input or a file.

A line ends at LF and nowhere else; every other byte is kept, CR and NUL too. A
last line without LF is a record, and so is an empty line. A line longer than
the topic takes stops the sending there, and its number is named.

A summary comes at the end, also after a failure or Ctrl-C: how many records
were acknowledged, have failed, were not sent. The exit code is 0 only if all
were acknowledged.`,
		Example: `  echo "hello" | broker produce greetings
  broker produce logs --file HDFS.log --key-regex 'blk_-?\d+'
  broker produce payments --file payments.csv --key-field 1 --delimiter ,
  tail -F app.log | broker produce logs --compression zstd`,
		Args: names(1, 1, "the name of a topic"),

		ValidArgsFunction: c.completeTopic,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(cmd, args[0])
			if err != nil {
				return err
			}
			in, err := c.openInput(f.file)
			if err != nil {
				return err
			}
			defer in.Close()
			return c.produce(o, in)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&f.file, "file", "f", "", "read this `FILE` instead of standard input")
	flags.StringVar(&f.keyRegex, "key-regex", "", "key: the first match of this regular expression (`RE`2 syntax) in the line, or its first group if it has groups; no match, no key")
	flags.IntVar(&f.keyField, "key-field", 0, "key: field `N` of the line, counted from 1; no such field, no key")
	flags.StringVar(&f.delimiter, "delimiter", "", "what separates the fields of --key-field, a `STRING`; \\t, \\0 and \\xNN are understood (default: runs of blanks)")
	flags.Int32Var(&f.partition, "partition", -1, "send everything to partition `N` instead of choosing by key")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "add the header `KEY=VALUE` to every record; repeatable")
	flags.StringVar(&f.acks, "acks", "quorum", "when a record counts as sent, a `LEVEL`: quorum, all, leader (fsynced as the topic says), none (never answered)")
	flags.StringVar(&f.compression, "compression", "none", "compress batches with `CODEC`: none, s2 (fast), zstd (small)")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "give a record up that is not acknowledged after this time, retries included")
	flags.BoolVar(&f.printAcks, "print-acks", false, "print LINE PARTITION OFFSET on standard output for every acknowledged line")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no progress and no summary, only errors")
	flags.Lookup("partition").DefValue = "0" // so that help shows no default
	c.jsonFlag(cmd, "print the summary (and --print-acks) as JSON on standard output")
	c.serverFlag(cmd)
	completeFlag(cmd, "acks", "quorum", "all", "leader", "none")
	completeFlag(cmd, "compression", "none", "s2", "zstd")
	return cmd
}

func (f *produceFlags) options(cmd *cobra.Command, topic string) (produceOptions, error) {
	o := produceOptions{topic: topic, partition: f.partition, timeout: f.timeout, printAcks: f.printAcks, quiet: f.quiet}
	var err error
	if o.key, err = f.key(cmd); err != nil {
		return o, err
	}
	if cmd.Flags().Changed("partition") && f.partition < 0 {
		return o, usagef("partitions are counted from 0", "--partition %d", f.partition)
	}
	if o.acks, err = sequitur.ParseAcks(f.acks); err != nil {
		return o, usagef("", "--%s", withoutCode(err))
	}
	if o.codec, err = sequitur.ParseCodec(f.compression); err != nil {
		return o, usagef("choose none, s2 or zstd", "--compression %q is not known", f.compression)
	}
	if f.timeout <= 0 {
		return o, usagef("for example: --timeout 30s", "--timeout %s is not above zero", f.timeout)
	}
	for _, h := range f.headers {
		key, value, ok := strings.Cut(h, "=")
		if !ok || key == "" {
			return o, usagef("for example: --header trace=a1", "--header %q is not KEY=VALUE", h)
		}
		o.headers = append(o.headers, sequitur.Header{Key: key, Value: []byte(value)})
	}
	if err := sequitur.ValidateTopicName(topic); err != nil {
		return o, usagef("", "%s", withoutCode(err))
	}
	return o, nil
}

func (f *produceFlags) key(cmd *cobra.Command) (lines.Key, error) {
	byField := cmd.Flags().Changed("key-field")
	switch {
	case f.keyRegex != "" && byField:
		return nil, usagef("choose one of them", "--key-regex and --key-field exclude each other")
	case f.keyRegex != "":
		key, err := lines.RegexKey(f.keyRegex)
		if err != nil {
			return nil, usagef("the syntax is that of https://golang.org/s/re2syntax; quote it for the shell", "--key-regex: %v", err)
		}
		return key, nil
	case byField:
		if f.delimiter == "" && cmd.Flags().Changed("delimiter") {
			return nil, usagef("for example: --delimiter , or leave it out to separate fields by runs of blanks", "--delimiter is empty")
		}
		delimiter, err := format.Unescape(f.delimiter)
		if err != nil {
			return nil, usagef("", "--delimiter: %v", err)
		}
		key, err := lines.FieldKey(f.keyField, delimiter)
		if err != nil {
			return nil, usagef("for example: --key-field 1 --delimiter ,", "--key-field: %v", err)
		}
		return key, nil
	case cmd.Flags().Changed("delimiter"):
		return nil, usagef("for example: --key-field 1 --delimiter ,", "--delimiter does nothing without --key-field")
	}
	return lines.NoKey{}, nil
}

// input is where the lines come from.
type input struct {
	io.ReadCloser
	size     int64 // bytes left to read, -1 where that is not known
	terminal bool  // somebody types
}

// openInput opens the file, or standard input.
func (c *cli) openInput(name string) (*input, error) {
	if name == "" || name == "-" {
		in := &input{ReadCloser: io.NopCloser(c.stdin), size: -1}
		if f, ok := c.stdin.(*os.File); ok {
			in.size, in.terminal = remaining(f), isTerminal(f)
		}
		if in.terminal {
			c.say("reading lines from the terminal; end with Ctrl-D")
		}
		return in, nil
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(exitNotFound, "check --file", "there is no file %q", name)
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, usagef("name a file", "%q is a directory", name)
	}
	return &input{ReadCloser: f, size: remaining(f)}, nil
}

// remaining is how many bytes a regular file has from its position on.
func remaining(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return -1
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return -1
	}
	return max(info.Size()-at, 0)
}
