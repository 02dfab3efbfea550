package bench

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports below those that the kernel hands out to outgoing connections: one of a server that is down for a moment is
// not taken by somebody's connection meanwhile.
const (
	lowestPort  = 12_000
	highestPort = 31_999
	portTries   = 1000
)

// freeAddresses finds loopback addresses that nobody listens on. A server of a cluster has to know the addresses of the
// others before they run, and to find its own again after a restart.
func freeAddresses(n int) (addrs []string, err error) {
	held := make([]net.Listener, 0, n)
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for range portTries {
		if len(addrs) == n {
			return addrs, nil
		}
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue // taken
		}
		held, addrs = append(held, l), append(addrs, l.Addr().String())
	}
	return nil, fmt.Errorf("find %d free ports from %d to %d on 127.0.0.1: found %d", n, lowestPort, highestPort, len(addrs))
}
