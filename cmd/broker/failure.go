package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// The exit codes, part of the interface: docs/cli.md lists them.
const (
	exitOK          = 0
	exitFailure     = 1   // anything not named below
	exitUsage       = 2   // the command line, a configuration or a topic's settings do not hold
	exitUnreachable = 3   // no broker answers at --server
	exitNotFound    = 4   // no such topic, partition, offset or file
	exitCorrupt     = 5   // stored data is damaged
	exitPartial     = 6   // produce: some records were acknowledged, not all
	exitTimeout     = 7   // not done in the time that --timeout gives
	exitStorage     = 8   // the broker's disk is full or failed
	exitInUse       = 9   // the topic exists, or a directory or address is in use
	exitInterrupted = 130 // ended by a signal before it was done
)

// failure is an error that knows what the user can do about it and which exit
// code it has.
type failure struct {
	code int
	what string
	todo string // may be several lines, may be empty
	err  error  // cause, may be nil
}

func (f *failure) Error() string { return f.what }
func (f *failure) Unwrap() error { return f.err }

func fail(code int, todo, format string, args ...any) error {
	return &failure{code: code, what: fmt.Sprintf(format, args...), todo: todo}
}

func usagef(todo, format string, args ...any) error { return fail(exitUsage, todo, format, args...) }

// report prints an error, if there is one, and returns the exit code.
func (c *cli) report(err error) int {
	if err == nil {
		return exitOK
	}
	f := c.explain(err)
	if f.what != "" {
		fmt.Fprintf(c.stderr, "broker: %s\n", f.what)
		for line := range strings.Lines(f.todo) {
			fmt.Fprintf(c.stderr, "  %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	return f.code
}

// explain finds the exit code of an error and a way out of it.
func (c *cli) explain(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	f = &failure{code: exitFailure, what: err.Error(), err: err}
	var remote *sequitur.Error
	if errors.As(err, &remote) {
		f.what = remoteText(remote)
	}
	switch {
	case errors.Is(err, errInterrupted):
		f.code, f.what = exitInterrupted, "interrupted"
	case errors.Is(err, sequitur.ErrUnreachable):
		f.code = exitUnreachable
		f.what = "no broker answers at " + c.server
		if cause := rootCause(err); cause != "" {
			f.what += ": " + cause
		}
		f.todo = fmt.Sprintf("start one with: %s serve\nor name another with --server HOST:PORT or %s", c.invoked(), serverEnv)
	case errors.Is(err, sequitur.ErrUnknownTopic):
		f.code = exitNotFound
		f.what = "there is no such topic at " + c.server
		if remote != nil && remote.Topic != "" {
			f.what = fmt.Sprintf("there is no topic %q at %s", remote.Topic, c.server)
			f.todo = fmt.Sprintf("create it with: %s topic create %s\nsee all with:   %s topic list", c.invoked(), remote.Topic, c.invoked())
		}
	case errors.Is(err, sequitur.ErrUnknownPartition), errors.Is(err, sequitur.ErrOffsetOutOfRange), errors.Is(err, fs.ErrNotExist):
		f.code = exitNotFound
	case errors.Is(err, sequitur.ErrCorrupt):
		f.code = exitCorrupt
	case errors.Is(err, sequitur.ErrStorageFull):
		f.code, f.what = exitStorage, "the disk of the broker at "+c.server+" is full"
		f.todo = "free space on it, delete topics, or shorten their retention; sending works again by itself then"
	case errors.Is(err, sequitur.ErrStorageFailed):
		f.code = exitStorage
	case errors.Is(err, sequitur.ErrTopicExists):
		f.code = exitInUse
	case errors.Is(err, sequitur.ErrInvalidTopicName), errors.Is(err, sequitur.ErrInvalidConfig),
		errors.Is(err, sequitur.ErrUnsupported), errors.Is(err, sequitur.ErrMisuse):
		f.code = exitUsage
	case errors.Is(err, sequitur.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		f.code = exitTimeout
	}
	return f
}

// remoteText phrases an error of the client: what was attempted on what, and
// the broker's own words.
func remoteText(e *sequitur.Error) string {
	what := e.Op
	if e.Topic != "" {
		what += " " + e.Topic
		if e.Partition >= 0 {
			what += fmt.Sprintf(", partition %d", e.Partition)
		}
	}
	text := fmt.Sprintf("%s: %s (%s)", what, e.Message, e.Code)
	if cause := e.Err; cause != nil && !strings.Contains(text, cause.Error()) {
		text += ": " + cause.Error()
	}
	return text
}

// rootCause is the innermost error's text: "connection refused" rather than
// everything that was wrapped around it.
func rootCause(err error) string {
	var last error
	for e := err; e != nil; {
		last = e
		switch u := e.(type) {
		case interface{ Unwrap() error }:
			e = u.Unwrap()
		case interface{ Unwrap() []error }:
			if all := u.Unwrap(); len(all) > 0 {
				e = all[0]
			} else {
				e = nil
			}
		default:
			e = nil
		}
	}
	if last == err {
		return ""
	}
	return last.Error()
}
