package replication

import (
	"errors"
	"fmt"
	"slices"
)

// maxMembers bounds a replica set, the joining one included.
const maxMembers = 16

// ReplicaSet is the nodes that hold a partition.
type ReplicaSet struct {
	Version uint32
	Members []uint32 // node ids
	// Joining is the set to change to, empty when there is no change under way. A
	// majority of both is needed then.
	Joining []uint32
}

func (s ReplicaSet) validate() error {
	if len(s.Members) == 0 {
		return errors.New("replica set without members")
	}
	for _, set := range [][]uint32{s.Members, s.Joining} {
		for i, id := range set {
			if slices.Contains(set[:i], id) {
				return fmt.Errorf("replica set names node %d twice", id)
			}
		}
	}
	if n := len(s.all()); n > maxMembers {
		return fmt.Errorf("replica set of %d members, at most %d", n, maxMembers)
	}
	return nil
}

// all returns the members of both sets, each once.
func (s ReplicaSet) all() []uint32 {
	all := slices.Clone(s.Members)
	for _, id := range s.Joining {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	return all
}
