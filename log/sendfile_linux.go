package log

import (
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendFile moves n bytes from offset off of the file to the connection. The offset is its own argument, so any number
// of readers share one descriptor. handled is false if the connection takes no sendfile; nothing was sent then. The
// connection's write deadline holds.
func sendFile(conn syscall.Conn, fd uintptr, off, n int64) (sent int64, handled bool, err error) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return 0, false, err
	}
	const atOnce = 1 << 20
	var sendErr error
	err = rc.Write(func(sock uintptr) bool {
		for sent < n {
			m, err := unix.Sendfile(int(sock), int(fd), &off, int(min(n-sent, atOnce)))
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return false
			case err != nil:
				sendErr = err
				return true
			case m <= 0:
				sendErr = io.ErrUnexpectedEOF
				return true
			}
			sent += int64(m)
		}
		return true
	})
	if err == nil {
		err = sendErr
	}
	if sent == 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP)) {
		return 0, false, errSendUnsupported
	}
	return sent, true, err
}
