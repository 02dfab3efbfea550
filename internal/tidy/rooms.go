package tidy

// room is one folder of the house with the rooms it may import.
type room struct {
	// pure rooms hold state machines and formats: no files, sockets, locks,
	// randomness or wall clock.
	pure bool
	// imports lists the rooms this one may import, by folder. A package below
	// a room's folder belongs to the room.
	imports []string
	// anything lifts the import rule: for checkers and simulations that are
	// used by tests alone.
	anything bool
}

// rooms is the table of ARCHITECTURE.md: which room may import which.
// Standard library and third-party libraries are not listed here.
var rooms = map[string]room{
	"internal/vfs":        {},
	"record":              {pure: true},
	"wire":                {pure: true, imports: []string{"record"}},
	"partitions":          {pure: true},
	"log":                 {imports: []string{"record", "internal/vfs"}},
	"replication":         {pure: true, imports: []string{"record"}},
	"txn":                 {pure: true, imports: []string{"record"}},
	"replication/replica": {imports: []string{"log", "replication", "record", "txn"}},
	"replication/session": {imports: []string{"log", "record", "replication", "replication/replica", "wire"}},
	"groups":              {pure: true, imports: []string{"partitions"}},
	"ordering":            {pure: true, imports: []string{"record"}},
	"consensus": {imports: []string{
		"log", "partitions", "ordering", "record", "replication", "replication/replica", "wire",
	}},
	"consensus/controller": {pure: true, imports: []string{"consensus", "replication", "partitions", "record", "wire"}},
	"broker": {imports: []string{
		"internal/vfs", "record", "wire", "partitions", "log", "replication",
		"replication/replica", "replication/session", "txn", "groups", "ordering", "consensus", "consensus/controller",
	}},
	"nats":       {imports: []string{"broker", "record"}},
	"admin":      {imports: []string{"broker"}},
	"clients/go": {imports: []string{"record", "wire", "partitions", "ordering"}},
	"bench":      {imports: []string{"clients/go"}},
	"cmd/broker": {imports: []string{"broker", "nats", "admin", "log", "clients/go", "internal/vfs"}},
	"cmd/bench":  {imports: []string{"bench", "broker", "nats", "admin", "clients/go"}},

	"internal/faults": {anything: true},
	"internal/sim":    {anything: true},
	"internal/tidy":   {anything: true},
}

// pureForbidden are the imports that a pure room may not have.
var pureForbidden = map[string]string{
	"os":           "files and processes are passed in by a driver",
	"net":          "sockets belong to a driver",
	"sync":         "a pure machine has one owner and needs no lock",
	"sync/atomic":  "a pure machine has one owner and needs no atomics",
	"math/rand":    "randomness is passed in",
	"math/rand/v2": "randomness is passed in",
}

// bannedNames are package names that say nothing about what lives there.
var bannedNames = map[string]bool{"util": true, "utils": true, "common": true, "helpers": true, "types": true}
