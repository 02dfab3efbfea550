package wire

// ClusterStatusRequest asks how the cluster is.
type ClusterStatusRequest struct{}

// ClusterStatusResponse tells it as the controller sees it.
type ClusterStatusResponse struct {
	Status
	Document []byte // JSON, as `broker cluster status --json` prints it
}

// ClusterChangeRequest orders a change of who holds and leads what. It is answered
// when the change is under way; ClusterStatus tells how it goes on.
type ClusterChangeRequest struct {
	Action    string // add, remove, drain, rebalance, move-leader or cancel
	Node      uint32 // of move-leader: who is to lead
	Topic     string // of move-leader
	Partition uint32 // of move-leader
}

// ClusterChangeResponse answers ClusterChangeRequest.
type ClusterChangeResponse struct {
	Status
	Text string // what was begun, if there is anything to say
}

// AppendTo appends the encoded message, which is empty.
func (m *ClusterStatusRequest) AppendTo(dst []byte) []byte { return dst }

// Decode reads the message.
func (m *ClusterStatusRequest) Decode([]byte) error { return nil }

// AppendTo appends the encoded message.
func (m *ClusterStatusResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	return appendBytes(dst, m.Document)
}

// Decode reads the message.
func (m *ClusterStatusResponse) Decode(b []byte) error {
	r := newReader(b)
	*m = ClusterStatusResponse{}
	if m.read(&r); !m.failed() {
		m.Document = r.bytes(nil)
	}
	return r.finish("cluster status response")
}

// AppendTo appends the encoded message.
func (m *ClusterChangeRequest) AppendTo(dst []byte) []byte {
	dst = appendString(dst, m.Action)
	dst = appendU32(dst, m.Node)
	dst = appendString(dst, m.Topic)
	return appendU32(dst, m.Partition)
}

// Decode reads the message.
func (m *ClusterChangeRequest) Decode(b []byte) error {
	r := newReader(b)
	*m = ClusterChangeRequest{Action: r.str(), Node: r.u32(), Topic: r.str(), Partition: r.u32()}
	return r.finish("cluster change request")
}

// AppendTo appends the encoded message.
func (m *ClusterChangeResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	return appendString(dst, m.Text)
}

// Decode reads the message.
func (m *ClusterChangeResponse) Decode(b []byte) error {
	r := newReader(b)
	*m = ClusterChangeResponse{}
	if m.read(&r); !m.failed() {
		m.Text = r.str()
	}
	return r.finish("cluster change response")
}
