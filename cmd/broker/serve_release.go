//go:build !faults

package main

import "github.com/sequitur-mq/sequitur/broker"

// recordFaults does nothing in a released broker.
func recordFaults(*broker.Config) error { return nil }
