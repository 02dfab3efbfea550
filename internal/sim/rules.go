package sim

import "github.com/sequitur-mq/sequitur/replication"

// Breaks are rules switched off: those of the machines, and those of whoever uses them.
type Breaks struct {
	replication.Breakage
	VoteBeforeSync     bool // a vote is sent before the fence is on the disk
	FinishEarly        bool // the new set takes over before the joint epoch has committed anything
	ChangeAtOnce       bool // the set changes without a joint epoch
	ElectByOne         bool // the first vote decides
	AnswerWithoutRound bool // the end is answered without asking a majority
}

// needStub says that only the simpler controller can be without the rule.
func (b *Breaks) needStub() bool {
	return b.RankByFence || b.ChangeAtOnce || b.WipedSameIdentity || b.WipedUntilFirstFetch || b.JointByOne || b.SuspectVotes
}

// Rule is one rule that can be switched off.
type Rule struct {
	Name string
	Off  func(*Breaks)
	// Model says that a check of the rules by a model found that data is lost without.
	Model bool
}

// Rules returns all rules with a switch.
func Rules() []Rule {
	return []Rule{
		{"count-old-epochs", func(b *Breaks) { b.CountOldEpochs = true }, true},
		{"read-without-fence", func(b *Breaks) { b.ReadWithoutFence = true }, true},
		{"rank-by-fence", func(b *Breaks) { b.RankByFence = true }, true},
		{"wiped-same-identity", func(b *Breaks) { b.WipedSameIdentity = true }, true},
		{"wiped-until-first-fetch", func(b *Breaks) { b.WipedUntilFirstFetch = true }, true},
		{"truncate-to-high-watermark", func(b *Breaks) { b.TruncateToHW = true }, false},
		{"count-unsynced", func(b *Breaks) { b.CountUnsynced = true }, false},
		{"count-unmatched", func(b *Breaks) { b.CountUnmatched = true }, false},
		{"count-any-epoch", func(b *Breaks) { b.CountAnyEpoch = true }, false},
		{"count-learners", func(b *Breaks) { b.CountLearners = true }, false},
		{"joint-by-one", func(b *Breaks) { b.JointByOne = true }, false},
		{"lead-after-restart", func(b *Breaks) { b.LeadAfterRestart = true }, false},
		{"serve-before-start", func(b *Breaks) { b.ServeBeforeStart = true }, false},
		{"suspect-votes", func(b *Breaks) { b.SuspectVotes = true }, false},
		{"forget-fence", func(b *Breaks) { b.ForgetFence = true }, false},
		{"ignore-last-epoch", func(b *Breaks) { b.IgnoreLastEpoch = true }, false},
		{"vote-before-sync", func(b *Breaks) { b.VoteBeforeSync = true }, false},
		{"finish-early", func(b *Breaks) { b.FinishEarly = true }, false},
		{"change-at-once", func(b *Breaks) { b.ChangeAtOnce = true }, false},
		{"elect-by-one", func(b *Breaks) { b.ElectByOne = true }, false},
		{"answer-without-round", func(b *Breaks) { b.AnswerWithoutRound = true }, false},
	}
}
