//go:build !linux

package bench

import (
	"errors"
	"time"
)

func processUsage(int) (Usage, error) {
	return Usage{}, errors.New("processor time of another process can be read on Linux only")
}

func listenerPID(int) int { return 0 }

func ownCPU() time.Duration { return 0 }

func machineCPU() time.Duration { return 0 }
