package bench

import (
	"os/exec"
	"syscall"
)

// dieWithParent detaches the server from the terminal's signals (this process passes on what it wants) and has the
// kernel end it when this process is killed.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
