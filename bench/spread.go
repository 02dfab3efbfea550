package bench

// spread gives keyed records to n streams evenly (FNV-1a); records without a key all go to the first.
func spread(key []byte, n int) int {
	if n <= 1 || len(key) == 0 {
		return 0
	}
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, c := range key {
		h = (h ^ uint64(c)) * prime
	}
	return int(h % uint64(n))
}
