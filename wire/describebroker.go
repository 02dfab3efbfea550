package wire

import "math"

// DescribeBrokerRequest asks a broker about itself.
type DescribeBrokerRequest struct{}

// DescribeBrokerResponse tells what the process uses and holds.
type DescribeBrokerResponse struct {
	Status
	PID          uint32
	UptimeMs     uint64
	CPUUserUs    uint64 // microseconds of user time since the start
	CPUSystemUs  uint64
	RSSBytes     uint64
	PeakRSSBytes uint64
	DataDir      string
	JournalMode  string // for example "direct+dsync" or "fdatasync"
	Partitions   uint32
	GoVersion    string
	Connections  uint32
	DiskFree     uint64 // bytes
	Version      string // of the broker
	Stats        []Stat
}

// Stat is one named figure of a broker.
type Stat struct {
	Name  string
	Value float64
}

const minStat = 1 + 8

// AppendTo appends the encoded message, which is empty.
func (m *DescribeBrokerRequest) AppendTo(dst []byte) []byte { return dst }

// Decode reads the message.
func (m *DescribeBrokerRequest) Decode([]byte) error { return nil }

// AppendTo appends the encoded message.
func (m *DescribeBrokerResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendU32(dst, m.PID)
	dst = appendU64(dst, m.UptimeMs)
	dst = appendU64(dst, m.CPUUserUs)
	dst = appendU64(dst, m.CPUSystemUs)
	dst = appendU64(dst, m.RSSBytes)
	dst = appendU64(dst, m.PeakRSSBytes)
	dst = appendString(dst, m.DataDir)
	dst = appendString(dst, m.JournalMode)
	dst = appendU32(dst, m.Partitions)
	dst = appendString(dst, m.GoVersion)
	dst = appendU32(dst, m.Connections)
	dst = appendU64(dst, m.DiskFree)
	dst = appendString(dst, m.Version)
	dst = appendCount(dst, len(m.Stats))
	for _, s := range m.Stats {
		dst = appendString(dst, s.Name)
		dst = appendU64(dst, math.Float64bits(s.Value))
	}
	return dst
}

// Decode reads the message.
func (m *DescribeBrokerResponse) Decode(b []byte) error {
	r := newReader(b)
	*m = DescribeBrokerResponse{Stats: m.Stats[:0]}
	if m.read(&r); !m.failed() {
		m.PID = r.u32()
		m.UptimeMs = r.u64()
		m.CPUUserUs = r.u64()
		m.CPUSystemUs = r.u64()
		m.RSSBytes = r.u64()
		m.PeakRSSBytes = r.u64()
		m.DataDir = r.str()
		m.JournalMode = r.str()
		m.Partitions = r.u32()
		m.GoVersion = r.str()
		m.Connections = r.u32()
		m.DiskFree = r.u64()
		m.Version = r.str()
		m.Stats = resize(m.Stats, r.items(minStat))
		for i := range m.Stats {
			m.Stats[i] = Stat{Name: r.str(), Value: r.f64()}
		}
		r.endItems()
	}
	return r.finish("describe broker response")
}
