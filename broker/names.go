package broker

import (
	"fmt"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/log"
	"github.com/sequitur-mq/sequitur/wire"
)

// PartitionNames reads from a store's metadata what its partitions are called:
// topic/number; the empty string for those that no topic has. It changes
// nothing, so that log.Check can use it on a directory at rest. With an error a
// broker does not start on the store.
func PartitionNames(store *log.Store) (func(log.ID) string, error) {
	m, err := consensus.ReadMachine(store)
	if err != nil {
		return nil, fmt.Errorf("read the metadata: %w", err)
	}
	return func(id log.ID) string {
		if id == consensus.LogID {
			return fmt.Sprintf("__metadata/%d", id.Partition)
		}
		if t, ok := m.TopicByID(wire.UUID(id.Topic)); ok {
			return fmt.Sprintf("%s/%d", t.Name, id.Partition)
		}
		return ""
	}, nil
}
