package sequitur

import (
	"context"
	"sync"
	"time"

	"github.com/sequitur-mq/sequitur/wire"
)

const (
	// scoutGap is the time between two questions of the scout: what is wanted meanwhile is
	// asked for together. It grows to scoutGapMax while something goes on being wanted.
	scoutGap    = 10 * time.Millisecond
	scoutGapMax = 50 * time.Millisecond
	// huntFirst and huntMax bound the back-off of whoever waits for a leader: a
	// partition without one is asked for again soon, so that a failover costs little
	// more than its own time.
	huntFirst = 10 * time.Millisecond
	huntMax   = 300 * time.Millisecond
)

// newHunter spaces the questions for a partition's leader, and attempts at it.
func (c *Client) newHunter() retrier {
	r := c.newRetrier()
	r.exp.InitialInterval = min(c.opts.backoffFirst, huntFirst)
	r.exp.MaxInterval = min(c.opts.backoffMax, huntMax)
	r.exp.Multiplier = 1.5
	return r
}

// scout asks for the metadata that producers and consumers miss, in the stead of all of
// them: one question at a time, for all topics that are wanted by then.
type scout struct {
	client *Client
	wake   chan struct{}

	mu     sync.Mutex
	wanted map[string]*want
}

// want is a topic that somebody wants to know anew.
type want struct {
	at    int64 // client clock before which nobody asks
	users map[user]struct{}
	avoid *node // asked last: what it says, or does not say, led here
}

func newScout(c *Client) *scout {
	return &scout{client: c, wake: make(chan struct{}, 1), wanted: map[string]*want{}}
}

// want has a topic asked for at a time of the client's clock; the user's learned is
// called with the answer, or with that to an earlier question.
func (s *scout) want(u user, name string, at int64, avoid *node) {
	s.mu.Lock()
	w := s.wanted[name]
	sooner := w == nil || at < w.at
	if w == nil {
		w = &want{at: at, users: map[user]struct{}{}}
		s.wanted[name] = w
	}
	w.at = min(w.at, at)
	w.users[u] = struct{}{}
	if avoid != nil {
		w.avoid = avoid
	}
	s.mu.Unlock()
	if sooner {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// due takes what is to be asked for now, and says how long nothing is after that.
func (s *scout) due() (map[string]*want, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, wait := s.client.now(), time.Hour
	var round map[string]*want
	for name, w := range s.wanted {
		if left := time.Duration(w.at - now); left > time.Millisecond {
			wait = min(wait, left)
			continue
		}
		if round == nil {
			round = map[string]*want{}
		}
		round[name] = w
		delete(s.wanted, name)
	}
	return round, wait
}

// run is the scout's goroutine.
func (s *scout) run() {
	c := s.client
	defer c.wg.Done()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	gap := scoutGap
	for {
		round, wait := s.due()
		if round == nil {
			if wait > scoutGapMax {
				gap = scoutGap
			}
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-s.wake:
			case <-c.ctx.Done():
				return
			}
			continue
		}
		s.ask(round)
		if pause(c.ctx, gap) != nil {
			return
		}
		gap = min(gap+gap/5, scoutGapMax)
	}
}

func (s *scout) ask(round map[string]*want) {
	names := make([]string, 0, len(round))
	var avoid *node
	for name, w := range round {
		names = append(names, name)
		if w.avoid != nil {
			avoid = w.avoid
		}
	}
	found, err := s.client.askTopics(s.client.ctx, question{op: "refresh", avoid: avoid}, names)
	for name, w := range round {
		a := topicAnswer{err: err}
		if err == nil {
			a = found[name]
		}
		if a.err != nil {
			for u := range w.users {
				u.learned(name, nil, a.err)
			}
			continue
		}
		for _, u := range s.client.everybody() { // whoever did not ask yet would soon
			u.learned(name, a.info, nil)
		}
	}
}

// replaced says that a topic is another one than it was.
func replaced(op, name, advice string) *Error {
	return wireError(op, name, -1, wire.Errorf(wire.CodeUnknownTopic, "the topic was deleted and created again; %s", advice))
}

// elsewhere reports whether a refusal says that another broker is, or soon will be, the
// one to ask.
func elsewhere(code wire.Code) bool {
	switch code {
	case wire.CodeNotLeader, wire.CodeUnknownTopic, wire.CodeUnknownPartition, wire.CodeShuttingDown, wire.CodeStorageFailed:
		return true
	}
	return false
}

// first tries one thing after the other: each starts when the one before has failed, or
// has taken longer than patience. It returns the first success, or all failures; the
// others are cancelled and waited for.
func first[T any](ctx context.Context, patience time.Duration, tries []func(context.Context) (T, error)) (found T, failures []error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	type outcome struct {
		found T
		err   error
	}
	outcomes := make(chan outcome, len(tries))
	for next := 0; len(failures) < len(tries); {
		var late <-chan time.Time
		if next < len(tries) && (next == len(failures) || ctx.Err() == nil) {
			try := tries[next]
			next++
			wg.Go(func() {
				found, err := try(ctx)
				outcomes <- outcome{found, err}
			})
			if next < len(tries) {
				late = time.After(patience)
			}
		}
		select {
		case o := <-outcomes:
			if o.err == nil {
				return o.found, nil
			}
			failures = append(failures, o.err)
			if ctx.Err() != nil {
				return found, failures
			}
		case <-late:
		}
	}
	return found, failures
}
