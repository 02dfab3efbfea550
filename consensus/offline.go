package consensus

import "github.com/sequitur-mq/sequitur/log"

// ReadMachine returns the machine that OpenLocal would find in a store, and
// changes nothing. A store without the metadata partition has a new machine.
func ReadMachine(store *log.Store) (*Machine, error) {
	partition, ok := store.Partition(LogID)
	if !ok {
		return NewMachine(), nil
	}
	l := &Local{partition: partition, machine: NewMachine()}
	return l.machine, l.replay()
}
