package wire

// CreateTopicsRequest creates any number of topics in one durable step each.
type CreateTopicsRequest struct {
	Topics       []NewTopic
	ValidateOnly bool // check, change nothing
}

// NewTopic is a topic to create.
type NewTopic struct {
	Name   string
	Config TopicConfig
}

// CreateTopicsResponse answers the topics in their order.
type CreateTopicsResponse struct {
	Status
	Topics []TopicResult
}

// TopicResult is the outcome for one topic. UUID is set by CreateTopics only,
// and is zero where nothing was created.
type TopicResult struct {
	Name    string
	Code    Code
	Message string
	UUID    UUID
}

// Err is the error of this topic, an *Error, or nil.
func (t *TopicResult) Err() error { return partErr(t.Code, t.Message) }

// AlterTopicRequest changes the fields of a topic which are in Mask to the
// values in Config.
type AlterTopicRequest struct {
	Name   string
	Config TopicConfig
	Mask   TopicMask
}

// AlterTopicResponse has nothing but its status.
type AlterTopicResponse struct {
	Status
}

// DeleteTopicsRequest deletes topics with all their records.
type DeleteTopicsRequest struct {
	Topics []string
}

// DeleteTopicsResponse answers the names in their order.
type DeleteTopicsResponse struct {
	Status
	Topics []TopicResult
}

const (
	minNewTopic     = 1 + 1 + 1 + minTopicConfig // a name has at least one character
	minCreateResult = 1 + 2 + 1 + 16
	minDeleteResult = 1 + 2 + 1
)

// AppendTo appends the encoded message.
func (m *CreateTopicsRequest) AppendTo(dst []byte) []byte {
	dst = appendCount(dst, len(m.Topics))
	for i := range m.Topics {
		dst = appendString(dst, m.Topics[i].Name)
		dst = m.Topics[i].Config.appendTo(dst)
	}
	return appendBool(dst, m.ValidateOnly)
}

// Decode reads the message.
func (m *CreateTopicsRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Topics = resize(m.Topics, r.items(minNewTopic))
	for i := range m.Topics {
		m.Topics[i].Name = r.str()
		m.Topics[i].Config.read(&r)
	}
	r.endItems()
	m.ValidateOnly = r.boolean()
	return r.finish("create topics request")
}

// AppendTo appends the encoded message.
func (m *CreateTopicsResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendCount(dst, len(m.Topics))
	for i := range m.Topics {
		dst = m.Topics[i].appendTo(dst)
		dst = append(dst, m.Topics[i].UUID[:]...)
	}
	return dst
}

// Decode reads the message.
func (m *CreateTopicsResponse) Decode(b []byte) error {
	r := newReader(b)
	m.Topics = m.Topics[:0]
	if m.read(&r); !m.failed() {
		m.Topics = resize(m.Topics, r.items(minCreateResult))
		for i := range m.Topics {
			m.Topics[i].read(&r)
			m.Topics[i].UUID = r.uuid()
		}
		r.endItems()
	}
	return r.finish("create topics response")
}

func (t *TopicResult) appendTo(dst []byte) []byte {
	dst = appendString(dst, t.Name)
	dst = appendU16(dst, uint16(t.Code))
	return appendString(dst, t.Message)
}

func (t *TopicResult) read(r *reader) {
	*t = TopicResult{Name: r.str(), Code: Code(r.u16()), Message: r.str()}
}

// AppendTo appends the encoded message.
func (m *AlterTopicRequest) AppendTo(dst []byte) []byte {
	dst = appendString(dst, m.Name)
	dst = m.Config.appendTo(dst)
	return appendU64(dst, uint64(m.Mask))
}

// Decode reads the message.
func (m *AlterTopicRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Name = r.str()
	m.Config.read(&r)
	m.Mask = TopicMask(r.u64())
	return r.finish("alter topic request")
}

// AppendTo appends the encoded message.
func (m *AlterTopicResponse) AppendTo(dst []byte) []byte { return m.Status.appendTo(dst) }

// Decode reads the message.
func (m *AlterTopicResponse) Decode(b []byte) error {
	r := newReader(b)
	m.read(&r)
	return r.finish("alter topic response")
}

// AppendTo appends the encoded message.
func (m *DeleteTopicsRequest) AppendTo(dst []byte) []byte { return appendNames(dst, m.Topics) }

// Decode reads the message.
func (m *DeleteTopicsRequest) Decode(b []byte) error {
	r := newReader(b)
	m.Topics = readNames(&r, m.Topics)
	return r.finish("delete topics request")
}

// AppendTo appends the encoded message.
func (m *DeleteTopicsResponse) AppendTo(dst []byte) []byte {
	dst = m.Status.appendTo(dst)
	if m.failed() {
		return dst
	}
	dst = appendCount(dst, len(m.Topics))
	for i := range m.Topics {
		dst = m.Topics[i].appendTo(dst)
	}
	return dst
}

// Decode reads the message.
func (m *DeleteTopicsResponse) Decode(b []byte) error {
	r := newReader(b)
	m.Topics = m.Topics[:0]
	if m.read(&r); !m.failed() {
		m.Topics = resize(m.Topics, r.items(minDeleteResult))
		for i := range m.Topics {
			m.Topics[i].read(&r)
		}
		r.endItems()
	}
	return r.finish("delete topics response")
}
