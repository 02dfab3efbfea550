package broker

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is what the process takes of the machine.
type usage struct {
	user, system time.Duration
	rss, peak    uint64 // bytes
}

func processUsage() (u usage) {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.user = time.Duration(r.Utime.Nano())
		u.system = time.Duration(r.Stime.Nano())
	}
	// Not Maxrss: that begins with the size of the process that started this one.
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		if _, after, ok := strings.Cut(string(status), "VmHWM:"); ok {
			kib, _ := strconv.ParseUint(strings.Fields(after)[0], 10, 64)
			u.peak = kib << 10
		}
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(statm)); len(fields) > 1 {
			pages, _ := strconv.ParseUint(fields[1], 10, 64)
			u.rss = pages * uint64(os.Getpagesize())
		}
	}
	return u
}

// raiseFileLimit lets the process open as many files as it may.
func raiseFileLimit() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur >= l.Max {
		return err
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
