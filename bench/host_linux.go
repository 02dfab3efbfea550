package bench

import (
	"os"
	"path/filepath"
	"strings"
)

// fileSystem is the type and device of the mount that holds dir: "ext4 on /dev/vda".
func fileSystem(dir string) string {
	path, err := filepath.EvalSymlinks(dir)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	mounts, errMounts := os.ReadFile("/proc/self/mounts")
	if err != nil || errMounts != nil {
		return ""
	}
	best, found := "", ""
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		device, point, kind := f[0], f[1], f[2]
		inside := point == "/" || path == point || strings.HasPrefix(path, point+"/")
		// The longest mount point wins, of equals the later one.
		if inside && len(point) >= len(best) {
			best, found = point, kind+" on "+device
		}
	}
	return found
}
