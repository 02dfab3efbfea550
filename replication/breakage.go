package replication

// Breakage switches rules of the protocol off, one by one, so that tests can show that
// the simulation notices. Each loses acknowledged records, or worse. Production code
// never sets it.
type Breakage struct {
	CountOldEpochs       bool // replicas count for a record of an older epoch than the leader's
	ReadWithoutFence     bool // a vote is given without adopting the fence
	RankByFence          bool // the winner is ranked by adopted fence, not by its last record's epoch
	WipedSameIdentity    bool // a wiped disk keeps its name (the simulation's doing)
	WipedUntilFirstFetch bool // the same, but it does not vote until it has fetched once
	TruncateToHW         bool // a follower truncates to its high watermark, not by epochs
	TruncateBelowHW      bool // nobody asserts that truncation stops at the high watermark
	CountUnsynced        bool // what was fetched counts as fsynced
	CountUnmatched       bool // reports count though the logs may differ
	CountAnyEpoch        bool // reports of another epoch count
	CountLearners        bool // learners count for the majority
	JointByOne           bool // while the set changes, a majority of the old one is enough
	LeadAfterRestart     bool // a leader goes on in its epoch after a restart
	ServeBeforeStart     bool // appends are taken before the start record is committed
	SuspectVotes         bool // damaged logs vote like others
	ForgetFence          bool // the adopted fence is not persisted
	IgnoreLastEpoch      bool // logs are compared by offset only
}
