package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal reports whether somebody is likely to sit at the other end.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
