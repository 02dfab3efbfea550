package record

// Limits bound what is accepted from outside, before anything is allocated.
type Limits struct {
	MaxBatchBytes   int // of one whole batch as stored and sent
	MaxRecordsBytes int // of one records section after decompression
	MaxRecords      int // offsets that one batch may consume
}

// DefaultLimits returns 8 MiB per batch, 64 MiB of records after decompression and
// 1,048,576 records.
func DefaultLimits() Limits {
	return Limits{MaxBatchBytes: 8 << 20, MaxRecordsBytes: 64 << 20, MaxRecords: 1 << 20}
}
