//go:build !linux

package log

func openFilesDefault(want int) int { return min(want, 512) }
