package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	defaultServer = "127.0.0.1:7650"
	serverEnv     = "SEQUITUR_SERVER"
)

// cli is one invocation of the program with everything that it may touch.
type cli struct {
	args   []string // args[0] is how the program was called
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string

	server string // --server, or what stands for it
	json   bool   // --json
}

// run executes the command line and returns the exit code.
func (c *cli) run() int {
	out := &output{w: c.stdout}
	c.stdout = out
	root := c.rootCommand()
	root.SetArgs(c.args[1:])
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	err := root.Execute()
	if err == nil {
		err = out.failure()
	}
	return c.report(err)
}

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "broker",
		Short: "A durable message broker that keeps order",
		Long: `Sequitur, a durable message broker that keeps order.

Without a command it serves: a durable broker on loopback, with its data in
./data. In another terminal:

  broker topic create greetings --partitions 4
  echo "hello" | broker produce greetings
  broker consume greetings`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
	}
	group(root, c.serveDefaults)
	root.SetFlagErrorFunc(c.flagError)
	root.AddGroup(
		&cobra.Group{ID: "server", Title: "Run a broker:"},
		&cobra.Group{ID: "client", Title: "Use a broker:"},
		&cobra.Group{ID: "disk", Title: "Look at a data directory:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, cmd := range commands {
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	add("server", c.serveCommand())
	add("client", c.topicCommand(), c.produceCommand(), c.consumeCommand(), c.clusterCommand())
	add("disk", c.checkCommand(), c.logCommand())
	add("", c.versionCommand())
	return root
}

// serverFlag gives a command that talks to a broker its --server.
func (c *cli) serverFlag(cmd *cobra.Command) {
	preset := defaultServer
	if v := c.getenv(serverEnv); v != "" {
		preset = v
	}
	cmd.PersistentFlags().StringVar(&c.server, "server", preset,
		"address of the broker, HOST:PORT[,HOST:PORT]; "+serverEnv+" sets the default")
}

func (c *cli) jsonFlag(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVar(&c.json, "json", false, what)
}

// group makes a command that holds others: called alone it does what alone
// does, called with a word that is no command of its it says so.
func group(cmd *cobra.Command, alone func(*cobra.Command) error) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return alone(cmd)
		}
		var names []string
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		todo := didYouMean(args[0], names)
		if todo == "" {
			todo = seeHelp(cmd)
		}
		return usagef(todo, "unknown command %q for %q", args[0], cmd.CommandPath())
	}
	return cmd
}

// flagError turns what the flag parser says into a usage error with a way out.
func (c *cli) flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if cmd.Parent() == nil {
			if serve, _, found := cmd.Find([]string{"serve"}); found == nil && serve.Flags().Lookup(unknown.GetSpecifiedName()) != nil {
				return usagef(fmt.Sprintf("it belongs to: %s serve --%s ...", c.invoked(), unknown.GetSpecifiedName()), "%v", err)
			}
		}
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
		if todo := didYouMean("--"+unknown.GetSpecifiedName(), names); todo != "" {
			return usagef(todo, "%v", err)
		}
	}
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return usagef(seeHelp(cmd), "--%s %q: %s", invalid.GetFlag().Name, invalid.GetValue(), invalidText(invalid))
	}
	return usagef(seeHelp(cmd), "%v", err)
}

// invalidText says what a flag takes, in place of the parsers' own words.
func invalidText(e *pflag.InvalidValueError) string {
	switch kind := e.GetFlag().Value.Type(); {
	case strings.HasPrefix(kind, "int"):
		return "is not a whole number"
	case kind == "duration" && strings.HasPrefix(e.Unwrap().Error(), "time:"):
		return "is not a duration such as 500ms, 30s or 5m"
	}
	return withoutCode(e.Unwrap())
}

func seeHelp(cmd *cobra.Command) string {
	return fmt.Sprintf("see: %s --help", cmd.CommandPath())
}

// names checks that a command got the arguments that its usage line names.
func names(atLeast, atMost int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < atLeast:
			return usagef("usage: "+cmd.UseLine(), "%s needs %s", cmd.CommandPath(), what)
		case atMost >= 0 && len(args) > atMost:
			return usagef("usage: "+cmd.UseLine(), "%s takes %s, but was also given %q", cmd.CommandPath(), what, args[atMost])
		}
		return nil
	}
}

// invoked is how the reader of an example calls this program.
func (c *cli) invoked() string {
	self := c.args[0]
	if strings.Contains(self, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/broker"
	}
	base := filepath.Base(self)
	if found, err := exec.LookPath(base); err == nil && self != base {
		if a, err := os.Stat(found); err == nil {
			if b, err := os.Stat(self); err == nil && os.SameFile(a, b) {
				return base
			}
		}
	}
	return self
}

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that SIGINT or SIGTERM ends. A second signal
// ends the process at once.
func (c *cli) interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
		case <-done:
			return
		}
		cancel(errInterrupted)
		select {
		case <-signals:
			os.Exit(exitInterrupted)
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}

func interrupted(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errInterrupted) }

// ignoreBrokenPipe makes writes to a closed pipe fail with EPIPE instead of
// ending the process, and returns how to undo it.
func ignoreBrokenPipe() func() {
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	return func() { signal.Stop(pipe) }
}
