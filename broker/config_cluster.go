package broker

import (
	"fmt"
	"math"
	"strings"
)

// clustered reports whether the broker is one of a cluster.
func (c *Config) clustered() bool { return c.ClusterListen != "" }

// joinAddresses are the addresses of Join.
func (c *Config) joinAddresses() (addrs []string) {
	for addr := range strings.SplitSeq(c.Join, ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// checkCluster checks the settings of a broker of a cluster.
func (c *Config) checkCluster() error {
	if c.NodeID < 0 || int64(c.NodeID) > math.MaxInt32 {
		return fmt.Errorf("node-id %d is out of range: use 1 to %d", c.NodeID, math.MaxInt32)
	}
	if !c.clustered() {
		for _, s := range []struct{ name, value string }{{"join", c.Join}, {"cluster-advertise", c.ClusterAdvertise}} {
			if s.value != "" {
				return fmt.Errorf("%s %q is of no use without cluster-listen: set both for a broker of a cluster, or neither", s.name, s.value)
			}
		}
		return nil
	}
	if c.NodeID == 0 {
		return fmt.Errorf("node-id is not set: give each broker of a cluster a number of its own, from 1")
	}
	if err := checkListen("cluster-listen", c.ClusterListen, c.InsecureListen); err != nil {
		return err
	}
	if !strings.HasSuffix(c.ClusterListen, ":0") && (c.ClusterListen == c.Listen || c.ClusterListen == c.HTTP) {
		return fmt.Errorf("cluster-listen is %q, which is also that of clients: choose another port", c.ClusterListen)
	}
	if err := checkAdvertise("cluster-advertise", c.ClusterAdvertise, "other brokers"); err != nil {
		return err
	}
	for _, addr := range c.joinAddresses() {
		if err := checkAdvertise("join", addr, "this broker"); err != nil {
			return err
		}
	}
	if len(c.Rack) > maxRack {
		return fmt.Errorf("rack has %d bytes, at most %d are allowed", len(c.Rack), maxRack)
	}
	if c.ReplaceAfter < 0 {
		return fmt.Errorf("replace-after must not be negative: use 0 for never")
	}
	return nil
}

// maxRack bounds the name of a rack.
const maxRack = 128
