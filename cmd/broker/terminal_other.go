//go:build !linux

package main

import "os"

// isTerminal reports whether somebody is likely to sit at the other end.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
