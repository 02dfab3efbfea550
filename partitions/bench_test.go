package partitions

import (
	"fmt"
	"testing"
)

func benched(tb testing.TB) map[string]Partitioner {
	var splits [][]byte
	for i := range 999 {
		splits = append(splits, fmt.Appendf(nil, "customer-%06d", i*1_000))
	}
	all := map[string]Partitioner{}
	add := func(name string, p Partitioner, err error) {
		if err != nil {
			tb.Fatal(err)
		}
		all[name] = p
	}
	h, err := NewHash(1_000)
	add("hash", h, err)
	r, err := NewRange(splits)
	add("range", r, err)
	small, err := NewRing(16, 128)
	add("ring-16", small, err)
	large, err := NewRing(10_000, 128)
	add("ring-10000", large, err)
	return all
}

func BenchmarkPartition(b *testing.B) {
	var keys [1024][]byte
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "customer-%06d", i*977)
	}
	for name, p := range benched(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				p.Partition(keys[i&1023])
				i++
			}
		})
	}
}

func BenchmarkNewRing(b *testing.B) {
	for _, n := range []uint32{16, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := NewRing(n, 128); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
