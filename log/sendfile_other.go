//go:build !linux

package log

import "syscall"

func sendFile(syscall.Conn, uintptr, int64, int64) (int64, bool, error) {
	return 0, false, errSendUnsupported
}
