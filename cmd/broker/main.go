// Command broker runs a Sequitur broker and talks to one: it serves a data
// directory, manages topics, produces lines, consumes records, and checks and
// dumps what is on disk. docs/cli.md shows every command.
//
// Nothing here knows how a broker or a client works inside: the package holds
// flags, signals, texts and exit codes.
package main

import "os"

func main() {
	c := &cli{
		args:   os.Args,
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		getenv: os.Getenv,
	}
	os.Exit(c.run())
}
