package log

import "golang.org/x/sys/unix"

// openFilesDefault is want, or what the process's limit leaves after room for connections and the journal.
func openFilesDefault(want int) int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil {
		return min(want, 512)
	}
	const others = 2048
	if lim.Cur < 2*others {
		return max(16, min(want, int(lim.Cur/2)))
	}
	return int(min(uint64(want), lim.Cur-others))
}
