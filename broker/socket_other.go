//go:build !linux

package broker

import (
	"syscall"
	"time"
)

// setUserTimeout has no counterpart here: only write deadlines hold.
func setUserTimeout(syscall.RawConn, time.Duration) {}
