package broker

import (
	"maps"
	"sync"
	"sync/atomic"
)

const cowShards = 256

// A cowMap is a map that is read without a lock and written by copying a
// shard of it. Reads are on the way of every batch; writes happen when topics
// or named producers come and go, and copy 1/256 of the entries.
type cowMap[K comparable, V any] struct {
	shard  func(K) uint8
	mu     sync.Mutex // held by writers
	shards [cowShards]atomic.Pointer[map[K]V]
	count  atomic.Int64
}

func newCowMap[K comparable, V any](shard func(K) uint8) *cowMap[K, V] {
	return &cowMap[K, V]{shard: shard}
}

func (m *cowMap[K, V]) load(k K) (v V, ok bool) {
	if p := m.shards[m.shard(k)].Load(); p != nil {
		v, ok = (*p)[k]
	}
	return v, ok
}

func (m *cowMap[K, V]) store(k K, v V) {
	m.change(k, func(shard map[K]V) {
		if _, there := shard[k]; !there {
			m.count.Add(1)
		}
		shard[k] = v
	})
}

func (m *cowMap[K, V]) remove(k K) {
	m.change(k, func(shard map[K]V) {
		if _, there := shard[k]; there {
			m.count.Add(-1)
		}
		delete(shard, k)
	})
}

func (m *cowMap[K, V]) change(k K, edit func(map[K]V)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slot := &m.shards[m.shard(k)]
	next := make(map[K]V)
	if p := slot.Load(); p != nil {
		next = maps.Clone(*p)
	}
	edit(next)
	slot.Store(&next)
}

func (m *cowMap[K, V]) len() int { return int(m.count.Load()) }

// each calls fn for every entry of some moment's shards, in no order.
func (m *cowMap[K, V]) each(fn func(K, V)) {
	for i := range m.shards {
		if p := m.shards[i].Load(); p != nil {
			for k, v := range *p {
				fn(k, v)
			}
		}
	}
}
