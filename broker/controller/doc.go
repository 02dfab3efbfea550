// Package controller runs the controller of the cluster (package consensus/controller)
// on the broker that leads Raft. One goroutine owns the machine: whatever happens is
// queued for it, and what it wants done is started by it and reported back to its
// queue, so nothing here waits for anything while it holds the machine.
package controller
