package controller

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every rule that can be switched off is told by a transcript, which reads otherwise
// without it.
func TestTranscriptsHaveTeeth(t *testing.T) {
	for file, b := range map[string]Breakage{
		"voter_away":                  {ElectWithoutMajority: true},
		"leader_restarted":            {KeepRestartedLeader: true},
		"voter_restarted":             {KeepRestartedVotes: true},
		"wiped_disk_never_votes":      {WipedKeepsName: true},
		"disk_wiped":                  {JoinUnlearned: true},
		"joint_needs_both":            {LeaveJointUnserved: true},
		"majority_gone":               {BeginWithoutMajority: true},
		"leaders_die_again_and_again": {NoBackoff: true},
		"leader_paused":               {KeepDeadLeader: true},
		"controller_stalls":           {HoldOwnStalls: true},
	} {
		t.Run(file, func(t *testing.T) {
			data, err := os.ReadFile("testdata/" + file + ".txt")
			require.NoError(t, err)
			require.NotEqual(t, string(data), play(t, string(data), b), "nobody noticed")
		})
	}
}
