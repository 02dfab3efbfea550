package replication

// Fetch is what a follower asks its leader for: everything from Offset on. It says at
// once up to where the follower fsynced, which is behind Offset while data is under way.
type Fetch struct {
	From      Member
	Epoch     uint32 // of the leader asked
	Offset    int64  // the end of the follower's log
	LastEpoch uint32 // epoch of the record before Offset, 0 if the log is empty
	Durable   int64
	Round     uint64 // the latest round heard of in this epoch
}

// AnswerKind is what the leader has to do about a fetch.
type AnswerKind uint8

const (
	// Ignore: it is none of this leader's business. No answer is sent.
	Ignore AnswerKind = iota
	// Send: the logs agree up to Answer.Offset, data may be sent from there.
	Send
	// Truncate: the logs differ. The follower is told the greatest common epoch as the
	// leader knows it and where that ends.
	Truncate
	// Reset: the follower's log ends before the leader's begins. It begins anew at
	// Answer.Offset.
	Reset
)

// Answer is a leader's answer to a fetch.
type Answer struct {
	Kind        AnswerKind
	Offset      int64  // Send: from here. Truncate: end of the common epoch. Reset: the leader's log start
	CommonEpoch uint32 // Truncate only
	Advanced    bool   // the high watermark rose
}

// Data is what goes with records from leader to follower, and without any when only the
// high watermark or the round moved. [Leader.Data] fills it.
type Data struct {
	Epoch         uint32
	LastEpoch     uint32 // epoch of the record before Base, 0 if the leader does not know it
	Base, End     int64  // the records are [Base, End)
	HighWatermark int64
	LogStart      int64
	Round         uint64
}

// Vote is what a replica answers to a fence.
type Vote struct {
	From  Member
	Epoch uint32 // voted in
	// LastEpoch is the epoch of the last record, End the end of the log: all of it fsynced.
	LastEpoch uint32
	End       int64
	Suspect   bool   // stored data is damaged: the vote does not count
	Fence     uint32 // the epoch adopted before this one; for display
}
