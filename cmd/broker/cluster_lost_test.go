package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// With two brokers of three gone, the third one says what is missing; that it answers is
// not denied.
func TestClusterStatusWithoutAMajority(t *testing.T) {
	p := startProcesses(t, 3)
	var s clusterStatus
	for voters := 0; voters < 3; {
		require.NoError(t, json.Unmarshal([]byte(ok(t, p.all(), nil, "cluster", "status", "--json")), &s))
		voters = 0
		for _, b := range s.Brokers {
			if b.Voter {
				voters++
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	last := int(s.Controller) - 1 // after it nobody can be elected any more
	left := (last + 1) % 3
	p.servers[(last+2)%3].kill()
	p.servers[last].kill()
	var voters []string
	for i := range p.servers {
		state := "unreachable"
		if i == left {
			state = "this broker"
		}
		voters = append(voters, fmt.Sprintf("%d (%s)", i+1, state))
	}
	for _, command := range [][]string{{"cluster", "status"}, {"cluster", "drain", "1"}} {
		r := run(t, p.all(), nil, command...)
		require.Equal(t, exitTimeout, r.code, r.stderr)
		require.Contains(t, r.stderr, "no controller: a majority of the Raft voters must be up; voters: "+strings.Join(voters, ", "))
		require.NotContains(t, r.stderr, "no broker answers")
	}
}
