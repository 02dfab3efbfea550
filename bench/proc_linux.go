package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockTicks is USER_HZ, which Linux fixes at 100 for every program.
const clockTicks = 100

// processUsage reads another process's processor time and memory.
func processUsage(pid int) (Usage, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Usage{}, fmt.Errorf("read processor time of process %d: %w", pid, err)
	}
	// The command in parentheses may hold anything; the fields are counted after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return Usage{}, fmt.Errorf("read processor time of process %d: unexpected %q", pid, stat)
	}
	u := Usage{PID: pid}
	for _, field := range fields[11:13] { // utime, stime
		ticks, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			return Usage{}, fmt.Errorf("read processor time of process %d: %w", pid, err)
		}
		u.CPU += time.Duration(ticks) * (time.Second / clockTicks)
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return Usage{}, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	u.RSS, u.PeakRSS = statusKiB(status, "VmRSS:"), statusKiB(status, "VmHWM:")
	return u, nil
}

// statusKiB is a field of /proc/PID/status in bytes; 0 where it is absent.
func statusKiB(status []byte, field string) uint64 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				kib, _ := strconv.ParseUint(f[0], 10, 64)
				return kib << 10
			}
		}
	}
	return 0
}

// listenerPID finds the process that listens on a TCP port of this machine, among those whose files may be seen.
func listenerPID(port int) int {
	inodes := make(map[string]bool)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			const listening = "0A"
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				inodes["socket:["+f[9]+"]"] = true
			}
		}
	}
	if len(inodes) == 0 {
		return 0
	}
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil && inodes[target] {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			return pid
		}
	}
	return 0
}

// ownCPU is the processor time this process has used.
func ownCPU() time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// machineCPU is the time that all processors of the machine have been busy, or taken away by the host; 0 where unknown.
func machineCPU() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal ...
	const idle, iowait, steal = 4, 5, 8
	if len(fields) <= steal {
		return 0
	}
	var busy uint64
	for i, field := range fields[1 : steal+1] {
		if at := i + 1; at != idle && at != iowait {
			ticks, _ := strconv.ParseUint(field, 10, 64)
			busy += ticks
		}
	}
	return time.Duration(busy) * (time.Second / clockTicks)
}
