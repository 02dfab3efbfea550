//go:build !linux

package bench

import (
	"fmt"
	"os"
)

func openProbe(name string) (*probeFile, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open probe file: %w", err)
	}
	return &probeFile{File: f, kind: "fsync", sync: true}, nil
}

func syncData(f *os.File) error { return f.Sync() }

func startWriteback(*os.File, int64, int64) {}

func alignedBuffer(n int) []byte { return make([]byte, n) }

func dropCaches(*os.File) error { return nil }
