package sequitur

import (
	"bufio"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/partitions"
	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// testServer is a broker in memory that speaks the protocol over real sockets, so that
// tests can inject what a healthy broker does not do. Several of them make a cluster
// whose replication takes no time: they share the logs.
type testServer struct {
	t    testing.TB
	ln   net.Listener
	wg   sync.WaitGroup
	id   uint32
	rack string
	*testShared
	address string

	closed    bool
	conns     map[net.Conn]struct{}
	requests  map[wire.Kind]int
	holes     map[holeKey][2]int64 // damaged offsets
	fetchBits []uint8              // flags of the fetches seen
	asked     []int                // topics named in requests for metadata
	// onFetch, if set, may refuse a part.
	onFetch func(topic string, partition uint32) wire.Code

	// onProduce, if set, may refuse a part before it is looked at, or swallow the
	// whole request (hang). Called with the lock held.
	onProduce func(topic string, partition uint32, b record.Batch) wire.Code
	// afterProduce, if set, may change the answer after the append.
	afterProduce func(wire.Code) wire.Code
	// hang, if set, may keep a request from being served; serveHeld serves it later.
	hang      func(kind wire.Kind) bool
	held      []func()
	mute      bool                              // no answers to produce requests
	mangle    func(verify bool, batches []byte) // of a fetch answer
	advertise string                            // address in metadata, "" for the real one
	noFence   bool
	discard   bool // acknowledge, store nothing
	leaving   bool // refuse everything because of a shutdown
	// swallow, if set, may have a request carried out but the connection closed in place
	// of the answer.
	swallow func(kind wire.Kind) bool
	behind  int64                     // as a follower: offsets that it lacks
	deposed map[holeKey]*deposedState // what it believes though it is not so
	lacking map[string]bool           // topics that it does not know yet
}

// testShared is what the brokers of a cluster have in common.
type testShared struct {
	mu       sync.Mutex
	grown    *sync.Cond // broadcast when a log grows or something closes
	peers    []*testServer
	topics   map[string]*testTopic
	byID     map[wire.UUID]*testTopic
	nextID   uint64
	named    map[string]identity
	appended int // batches
}

// deposedState is a partition as seen by a leader that does not know of its successor.
type deposedState struct {
	epoch uint32
	*testPartition
}

type holeKey struct {
	topic     string
	partition uint32
}

type testTopic struct {
	name  string
	uuid  wire.UUID
	cfg   wire.TopicConfig
	parts []*testPartition
}

type testPartition struct {
	batches   []record.Batch
	start     int64
	end       int64
	producers map[uint64]*testProducer
	ids       map[string]int64
	leader    uint32 // 0: none
	epoch     uint32
}

type testProducer struct {
	epoch, next uint32
	recent      []record.Batch
}

func (t *testTopic) hash(key []byte) uint32 {
	h, err := partitions.NewHash(t.cfg.Partitions)
	if err != nil {
		panic(err)
	}
	return h.Partition(key)
}

func startServer(t testing.TB) *testServer { return startCluster(t, 1)[0] }

// startCluster starts brokers with the ids 7, 8, ...
func startCluster(t testing.TB, n int) []*testServer {
	shared := &testShared{topics: map[string]*testTopic{}, byID: map[wire.UUID]*testTopic{}, nextID: 1, named: map[string]identity{}}
	shared.grown = sync.NewCond(&shared.mu)
	for i := range n {
		shared.peers = append(shared.peers, startPeer(t, shared, uint32(7+i)))
	}
	return shared.peers
}

func startPeer(t testing.TB, shared *testShared, id uint32) *testServer {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &testServer{
		t: t, ln: ln, address: ln.Addr().String(), id: id, testShared: shared, conns: map[net.Conn]struct{}{}, requests: map[wire.Kind]int{}, holes: map[holeKey][2]int64{},
	}
	s.wg.Add(1)
	go s.accept(ln)
	t.Cleanup(s.close)
	return s
}

func (s *testServer) addr() string { return s.address }

func (s *testServer) accept(ln net.Listener) {
	defer s.wg.Done()
	for {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[nc] = struct{}{}
		if s.closed {
			nc.Close()
		}
		s.wg.Add(1)
		s.mu.Unlock()
		go s.serve(nc)
	}
}

func (s *testServer) close() {
	s.ln.Close()
	s.mu.Lock()
	s.closed = true
	for nc := range s.conns {
		nc.Close()
	}
	s.grown.Broadcast()
	s.mu.Unlock()
	s.wg.Wait()
}

// cutAll closes every connection.
func (s *testServer) cutAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc := range s.conns {
		nc.Close()
	}
}

// stop refuses connections until start.
func (s *testServer) stop() {
	s.ln.Close()
	s.cutAll()
}

func (s *testServer) restart() {
	ln, err := net.Listen("tcp", s.addr())
	require.NoError(s.t, err)
	s.ln = ln
	s.wg.Add(1)
	go s.accept(ln)
}

// set changes the server's behaviour.
func (s *testServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.grown.Broadcast()
}

// waitFor waits until cond, called with the lock held, is true.
func (s *testServer) waitFor(cond func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !cond() {
		s.grown.Wait()
	}
}

// serveHeld serves the requests that hang kept back.
func (s *testServer) serveHeld() {
	s.mu.Lock()
	held := s.held
	s.held, s.hang = nil, nil
	s.mu.Unlock()
	for _, serve := range held {
		serve()
	}
}

func (s *testServer) create(name string, cfg wire.TopicConfig) *testTopic {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg = cfg.WithDefaults()
	t := &testTopic{name: name, cfg: cfg}
	t.uuid[0], t.uuid[1] = byte(len(s.byID)+1), 0xee
	for i := range int(cfg.Partitions) {
		leader := s.peers[i%len(s.peers)].id
		t.parts = append(t.parts, &testPartition{producers: map[uint64]*testProducer{}, ids: map[string]int64{}, leader: leader, epoch: 1})
	}
	s.topics[name], s.byID[t.uuid] = t, t
	return t
}

// lead moves partitions to another leader; none is named: all.
func (s *testServer) lead(topic string, partitions ...int) {
	s.set(func() {
		t := s.topics[topic]
		for i, p := range t.parts {
			if len(partitions) == 0 || slices.Contains(partitions, i) {
				p.leader, p.epoch = s.id, p.epoch+1
			}
		}
	})
}

// kill stops a broker; its partitions have no leader until somebody leads them.
func (s *testServer) kill() {
	s.stop()
	s.depose()
}

// depose takes all leadership from a broker.
func (s *testServer) depose() {
	s.set(func() {
		for _, t := range s.topics {
			for _, p := range t.parts {
				if p.leader == s.id {
					p.leader, p.epoch = 0, p.epoch+1
				}
			}
		}
	})
}

// elect gives partitions without a leader to brokers.
func elect(among ...*testServer) {
	n := 0
	among[0].set(func() {
		for _, t := range among[0].topics {
			for _, p := range t.parts {
				if p.leader == 0 {
					p.leader = among[n%len(among)].id
					n++
				}
			}
		}
	})
}

func (s *testServer) serve(nc net.Conn) {
	defer s.wg.Done()
	var handlers sync.WaitGroup
	defer handlers.Wait()
	var wmu sync.Mutex
	defer func() {
		nc.Close()
		s.mu.Lock()
		delete(s.conns, nc)
		s.grown.Broadcast()
		s.mu.Unlock()
	}()
	in := bufio.NewReader(nc)
	scratch := make([]byte, wire.FrameHeaderSize)
	for {
		h, err := wire.ReadFrameHeader(in, scratch, wire.FrameLimits{})
		if err != nil {
			return
		}
		body := make([]byte, h.BodyLength())
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		s.mu.Lock()
		s.requests[h.Kind]++
		answer := func() {
			resp, batches := s.handle(h, body[:h.MetadataLength], body[h.MetadataLength:], nc)
			if resp == nil {
				return
			}
			s.mu.Lock()
			swallow := s.swallow != nil && s.swallow(h.Kind)
			s.mu.Unlock()
			if swallow {
				nc.Close()
				return
			}
			out := wire.AppendFrame(nil, wire.FrameHeader{Kind: h.Kind, Version: h.Version, Flags: wire.FlagResponse, Correlation: h.Correlation}, resp, len(batches))
			wmu.Lock()
			defer wmu.Unlock()
			_, _ = nc.Write(append(out, batches...))
		}
		hang := s.hang != nil && s.hang(h.Kind)
		if hang {
			s.held = append(s.held, answer)
			s.grown.Broadcast()
		}
		s.mu.Unlock()
		if hang {
			continue
		}
		if h.Kind != wire.KindFetch {
			answer()
			continue
		}
		handlers.Add(1)
		go func() {
			defer handlers.Done()
			answer()
		}()
	}
}

func (s *testServer) handle(h wire.FrameHeader, meta, batches []byte, nc net.Conn) (wire.Message, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving && h.Kind != wire.KindHello {
		return &wire.ProduceResponse{Status: wire.StatusOf(wire.ErrShuttingDown)}, nil
	}
	switch h.Kind {
	case wire.KindCreateTopics:
		return s.createTopics(meta), nil
	case wire.KindHello:
		return &wire.HelloResponse{Version: 1, BrokerID: s.id, BrokerVersion: "test", MaxFrameBytes: 32 << 20, MaxBatchBytes: 8 << 20, APIs: wire.APIs()}, nil
	case wire.KindMetadata:
		return s.metadata(meta), nil
	case wire.KindInitProducer:
		return s.initProducer(meta), nil
	case wire.KindProduce:
		if resp := s.produce(meta, batches); resp != nil {
			return resp, nil
		}
		return nil, nil
	case wire.KindFetch:
		return s.fetch(meta, nc)
	case wire.KindListOffsets:
		return s.listOffsets(meta), nil
	}
	return &wire.AlterTopicResponse{Status: wire.StatusOf(wire.ErrUnsupported)}, nil
}

func (s *testServer) metadata(meta []byte) wire.Message {
	var req wire.MetadataRequest
	_ = req.Decode(meta)
	resp := &wire.MetadataResponse{Controller: s.peers[0].id}
	for _, peer := range s.peers {
		addr := peer.advertise
		if addr == "" {
			addr = peer.addr()
		}
		resp.Brokers = append(resp.Brokers, wire.BrokerMetadata{ID: peer.id, Addr: addr, Rack: peer.rack})
	}
	s.asked = append(s.asked, len(req.Topics))
	s.grown.Broadcast()
	for _, name := range req.Topics {
		t := s.topics[name]
		if t == nil || s.lacking[name] {
			resp.Topics = append(resp.Topics, wire.TopicMetadata{Code: wire.CodeUnknownTopic, Name: name})
			continue
		}
		m := wire.TopicMetadata{Name: name, UUID: t.uuid, Config: t.cfg}
		for i, p := range t.parts {
			part := wire.PartitionMetadata{Leader: p.leader, Epoch: p.epoch}
			if d := s.deposed[holeKey{name, uint32(i)}]; d != nil {
				part.Leader, part.Epoch = s.id, d.epoch
			}
			for _, peer := range s.peers {
				part.Replicas = append(part.Replicas, peer.id)
			}
			m.Partitions = append(m.Partitions, part)
		}
		resp.Topics = append(resp.Topics, m)
	}
	return resp
}

func (s *testServer) createTopics(meta []byte) wire.Message {
	var req wire.CreateTopicsRequest
	_ = req.Decode(meta)
	resp := &wire.CreateTopicsResponse{}
	for _, t := range req.Topics {
		r := wire.TopicResult{Name: t.Name}
		if s.topics[t.Name] != nil {
			r.Code = wire.CodeTopicExists
		} else {
			s.mu.Unlock()
			r.UUID = s.create(t.Name, t.Config).uuid
			s.mu.Lock()
		}
		resp.Topics = append(resp.Topics, r)
	}
	return resp
}

func (s *testServer) initProducer(meta []byte) wire.Message {
	var req wire.InitProducerRequest
	_ = req.Decode(meta)
	held := s.named[req.Name]
	switch {
	case req.Name == "":
		held = identity{s.nextID, 0}
		s.nextID++
	case req.ProducerID != 0 && (identity{req.ProducerID, req.Epoch}) != held:
		return &wire.InitProducerResponse{Status: wire.StatusOf(wire.ErrProducerFenced)}
	case held.id == 0:
		held = identity{s.nextID, 1}
		s.nextID++
	default:
		held.epoch++
	}
	if req.Name != "" {
		s.named[req.Name] = held
	}
	return &wire.InitProducerResponse{ProducerID: held.id, Epoch: held.epoch}
}

func (s *testServer) produce(meta, batches []byte) wire.Message {
	var req wire.ProduceRequest
	if err := req.Decode(meta); err != nil {
		return &wire.ProduceResponse{Status: wire.StatusOf(err)}
	}
	resp := &wire.ProduceResponse{}
	for _, part := range req.Parts {
		b, _, err := record.Parse(batches[:part.Bytes], record.DefaultLimits())
		batches = batches[part.Bytes:]
		result := wire.ProduceResult{}
		if err == nil {
			err = b.VerifyPayload()
		}
		if err != nil {
			result.Code, result.Message = wire.CodeCorruptMessage, err.Error()
		} else {
			s.appendBatch(part, b, &result)
			if s.afterProduce != nil {
				result.Code = s.afterProduce(result.Code)
			}
		}
		resp.Parts = append(resp.Parts, result)
	}
	s.grown.Broadcast()
	if req.Acks == wire.AcksNone || s.mute {
		return nil
	}
	return resp
}

func (s *testServer) appendBatch(part wire.ProducePart, b record.Batch, result *wire.ProduceResult) {
	t := s.byID[part.Topic]
	if t == nil || s.topics[t.name] != t {
		result.Code = wire.CodeUnknownTopic
		return
	}
	if s.onProduce != nil {
		if result.Code = s.onProduce(t.name, part.Partition, b); result.Code != wire.CodeNone {
			return
		}
	}
	p := t.parts[part.Partition]
	if d := s.deposed[holeKey{t.name, part.Partition}]; d != nil {
		p = d.testPartition
	} else if p.leader != s.id {
		result.Code = wire.CodeNotLeader
		return
	}
	known := p.producers[b.ProducerID()]
	switch {
	case b.ProducerID() == 0:
	case known == nil || b.ProducerEpoch() > known.epoch || s.noFence && b.ProducerEpoch() != known.epoch:
		known = &testProducer{epoch: b.ProducerEpoch()}
		p.producers[b.ProducerID()] = known
	case b.ProducerEpoch() < known.epoch:
		result.Code = wire.CodeProducerFenced
		return
	case b.BaseSequence() != known.next:
		for _, old := range known.recent {
			if old.BaseSequence() == b.BaseSequence() && old.LastOffsetDelta() == b.LastOffsetDelta() {
				result.BaseOffset, result.AppendTime, result.Flags = old.BaseOffset(), old.AppendTime(), wire.ProduceDuplicate
				return
			}
		}
		result.Code = wire.CodeSequenceGap
		if int32(b.BaseSequence()-known.next) < 0 {
			result.Code = wire.CodeStaleSequence
		}
		return
	}
	s.appended++
	b.Stamp(p.end, p.epoch, time.Now().UnixNano())
	if s.discard {
		b = b[:record.HeaderSize]
	}
	result.BaseOffset, result.AppendTime = b.BaseOffset(), b.AppendTime()
	if b.Attributes().MessageIDs() {
		s.findDuplicates(p, b, result)
	}
	if !s.discard {
		p.batches = append(p.batches, b)
	}
	p.end = b.NextOffset()
	if known != nil {
		known.next = b.NextSequence()
		known.recent = append(known.recent, b)
		known.recent = known.recent[max(0, len(known.recent)-16):]
	}
}

// findDuplicates reports repeated message ids, though the records stay in the log.
func (s *testServer) findDuplicates(p *testPartition, b record.Batch, result *wire.ProduceResult) {
	var r record.Reader
	var rec record.Record
	if err := r.Reset(b, record.NewDecompressor(), record.DefaultLimits()); err != nil {
		s.t.Error(err)
	}
	for i := uint32(0); ; i++ {
		if more, _ := r.Next(&rec); !more {
			return
		}
		id, ok := rec.MessageID()
		if !ok {
			continue
		}
		if first, seen := p.ids[string(id)]; seen {
			result.Duplicates = append(result.Duplicates, wire.DuplicateRecord{Index: i, Offset: first})
			continue
		}
		p.ids[string(id)] = b.BaseOffset() + rec.OffsetDelta
	}
}

func (s *testServer) fetch(meta []byte, nc net.Conn) (wire.Message, []byte) {
	var req wire.FetchRequest
	_ = req.Decode(meta)
	s.fetchBits = append(s.fetchBits, req.Flags)
	deadline := time.Now().Add(time.Duration(req.MaxWaitMs) * time.Millisecond)
	wake := time.AfterFunc(time.Until(deadline), func() { s.set(func() {}) })
	defer wake.Stop()
	for {
		resp, batches := &wire.FetchResponse{}, []byte(nil)
		for i, part := range req.Parts {
			s.fetchPart(uint32(i), part, &req, resp, &batches)
		}
		_, connected := s.conns[nc]
		if len(resp.Parts) > 0 || s.closed || !connected || !time.Now().Before(deadline) {
			if s.mangle != nil {
				s.mangle(req.Flags&wire.FetchVerify != 0, batches)
			}
			return resp, batches
		}
		s.grown.Wait()
	}
}

func (s *testServer) fetchPart(i uint32, part wire.FetchPart, req *wire.FetchRequest, resp *wire.FetchResponse, out *[]byte) {
	t := s.byID[part.Topic]
	if t == nil || s.topics[t.name] != t {
		resp.Parts = append(resp.Parts, wire.FetchResult{Index: i, Code: wire.CodeUnknownTopic})
		return
	}
	p := t.parts[part.Partition]
	end := p.end
	if p.leader != s.id {
		if end -= s.behind; req.Flags&wire.FetchFromFollower == 0 {
			resp.Parts = append(resp.Parts, wire.FetchResult{Index: i, Code: wire.CodeNotLeader})
			return
		}
	}
	r := wire.FetchResult{Index: i, HighWatermark: end, LogStart: p.start}
	if s.onFetch != nil {
		if r.Code = s.onFetch(t.name, part.Partition); r.Code == wire.CodeOffsetOutOfRange {
			r.HighWatermark = 0 // as one sees it that lacks the latest
		}
	}
	if part.Offset > end && part.Offset <= p.end {
		r.Code = wire.CodeOffsetNotAvailable
	}
	if r.Code != wire.CodeNone {
		resp.Parts = append(resp.Parts, r)
		return
	}
	if part.Offset < p.start || part.Offset > p.end {
		r.Code = wire.CodeOffsetOutOfRange
		resp.Parts = append(resp.Parts, r)
		return
	}
	hole, damaged := s.holes[holeKey{t.name, part.Partition}]
	for _, b := range p.batches {
		if b.NextOffset() <= part.Offset || b.NextOffset() <= p.start {
			continue
		}
		if b.NextOffset() > end {
			break
		}
		if damaged && b.NextOffset() > hole[0] && b.BaseOffset() < hole[1] {
			if r.Bytes == 0 {
				r.Code, r.Message, r.HoleFrom, r.HoleTo = wire.CodeCorrupt, "batch damaged in 0.log at 4711", hole[0], hole[1]
			}
			break
		}
		if n := int(r.Bytes) + len(b); r.Bytes > 0 && n > int(part.MaxBytes) || len(*out) > 0 && len(*out)+len(b) > int(req.MaxBytes) {
			break
		}
		*out = append(*out, b...)
		r.Bytes += uint32(len(b))
	}
	if r.Bytes > 0 || r.Code != wire.CodeNone {
		resp.Parts = append(resp.Parts, r)
	}
}

func (s *testServer) listOffsets(meta []byte) wire.Message {
	var req wire.ListOffsetsRequest
	_ = req.Decode(meta)
	resp := &wire.ListOffsetsResponse{}
	for _, part := range req.Parts {
		t := s.byID[part.Topic]
		if t == nil {
			resp.Parts = append(resp.Parts, wire.ListOffsetsResult{Code: wire.CodeUnknownTopic})
			continue
		}
		p := t.parts[part.Partition]
		if p.leader != s.id {
			resp.Parts = append(resp.Parts, wire.ListOffsetsResult{Code: wire.CodeNotLeader})
			continue
		}
		r := wire.ListOffsetsResult{Offset: p.end, TimeNs: -1}
		switch part.Kind {
		case wire.OffsetStart:
			r.Offset = p.start
		case wire.OffsetByTime:
			for _, b := range p.batches {
				if b.AppendTime() >= part.TimeNs {
					r.Offset, r.TimeNs = b.BaseOffset(), b.AppendTime()
					break
				}
			}
		}
		resp.Parts = append(resp.Parts, r)
	}
	return resp
}

// log returns the values of a partition in offset order.
func (s *testServer) log(topic string, partition int) (values []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r record.Reader
	var rec record.Record
	for _, b := range s.topics[topic].parts[partition].batches {
		require.NoError(s.t, r.Reset(b, record.NewDecompressor(), record.DefaultLimits()))
		for {
			more, err := r.Next(&rec)
			require.NoError(s.t, err)
			if !more {
				break
			}
			values = append(values, string(rec.Value))
		}
	}
	return values
}

func (s *testServer) count(kind wire.Kind) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[kind]
}
