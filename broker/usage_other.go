//go:build !linux

package broker

import "time"

type usage struct {
	user, system time.Duration
	rss, peak    uint64
}

func processUsage() usage { return usage{} }

func raiseFileLimit() error { return nil }
