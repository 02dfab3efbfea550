package bench

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// Host describes the machine that a report was made on.
type Host struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	MemoryMiB  uint64 `json:"memoryMiB"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"fileSystem"` // of the data directory
	Go         string `json:"go"`
	Revision   string `json:"revision,omitempty"`
}

// DescribeHost reads what the operating system tells; unknown facts stay empty. dir is where the data lies.
func DescribeHost(dir string) Host {
	h := Host{Cores: runtime.NumCPU(), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	h.CPU = fieldOf("/proc/cpuinfo", "model name")
	if total := fieldOf("/proc/meminfo", "MemTotal"); total != "" {
		var kib uint64
		if _, err := fmt.Sscan(total, &kib); err == nil {
			h.MemoryMiB = kib >> 10
		}
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		h.Kernel = strings.TrimSpace(string(release))
	}
	h.FileSystem = fileSystem(dir)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				h.Revision = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return h
}

// fieldOf is the value of the first "name : value" line of a file.
func fieldOf(file, name string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		key, value, found := strings.Cut(line, ":")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// String is one line for the head of a report.
func (h Host) String() string {
	return fmt.Sprintf("%s, %d cores, %.1f GiB, kernel %s, data on %s, %s",
		orUnknown(h.CPU), h.Cores, float64(h.MemoryMiB)/1024, orUnknown(h.Kernel), orUnknown(h.FileSystem), h.Go)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// Warning says where the place of the data makes figures of durable writes meaningless; "" where all is well.
func (h Host) Warning() string {
	switch strings.Fields(h.FileSystem + " .")[0] {
	case "tmpfs", "ramfs", "overlay":
		return "the data directory is on " + h.FileSystem + ": a flush there is not a flush to a disk; choose another with --data-dir"
	}
	return ""
}
