package sim

import (
	"errors"

	"github.com/sequitur-mq/sequitur/replication"
)

// receive takes in a message at a broker.
func (s *Sim) receive(b *broker, m *message) {
	if m.kind == probeRequest {
		s.answerProbe(b, m)
		return
	}
	if !b.up || m.life != 0 && m.life != b.life {
		return
	}
	switch m.kind {
	case fetchRequest:
		s.answerFetch(b, m)
	case fetchData, fetchTruncate, fetchReset:
		if f := b.replica.Follower(); f != nil {
			s.follow(b, f, m)
		}
	case fenceRequest:
		s.fence(b, m)
	case produceRequest:
		s.produce(b, m)
	case endRequest:
		l := b.replica.Leader()
		if l == nil || !l.Serving() {
			s.send(message{kind: endAnswer, from: b.index, to: m.from, attempt: m.attempt, result: notLeader})
			return
		}
		b.questions = append(b.questions, question{m.from, m.attempt, l.StartRound()})
	}
}

// fetch tells the leader where the follower is; again if answers may have been lost.
func (s *Sim) fetch(b *broker, again bool) {
	f := b.replica.Follower()
	if f == nil {
		return
	}
	s.send(message{
		kind: fetchRequest, from: b.index, to: uint8(f.Leader().Node - 1),
		fetch: f.Next(), again: again, sender: b.life,
	})
}

func (s *Sim) answerFetch(b *broker, m *message) {
	l := b.replica.Leader()
	if l == nil {
		return
	}
	a, err := l.Fetch(m.fetch)
	if !s.check(err) {
		return
	}
	st := b.standingOf(m.from)
	if st.life != m.sender {
		*st = standing{from: m.from, life: m.sender, hw: -1}
	}
	reply := message{from: b.index, to: m.from, life: m.sender, epoch: l.Epoch(), answer: a}
	switch a.Kind {
	case replication.Send:
		if !st.started || m.again || a.Offset > st.sent {
			st.sent, st.started = a.Offset, true
		}
		if m.again {
			st.hw = -1
		}
	case replication.Truncate:
		st.started = false
		reply.kind = fetchTruncate
		s.send(reply)
	case replication.Reset:
		st.started = false
		reply.kind = fetchReset
		s.send(reply)
	}
}

func (b *broker) standingOf(from uint8) *standing {
	for i := range b.standing {
		if b.standing[i].from == from {
			return &b.standing[i]
		}
	}
	b.standing = append(b.standing, standing{from: from, hw: -1})
	return &b.standing[len(b.standing)-1]
}

// follow takes in an answer of the leader.
func (s *Sim) follow(b *broker, f *replication.Follower, m *message) {
	switch m.kind {
	case fetchData:
		s.takeData(b, f, m)
		return
	case fetchTruncate:
		if m.epoch != f.Epoch() {
			return
		}
		to, err := f.Truncate(m.answer.CommonEpoch, m.answer.Offset)
		if errors.Is(err, replication.ErrSuspect) || !s.check(err) {
			return
		}
		if to < b.disk.live.end() {
			s.logf("broker %d truncates from %d to %d", b.index+1, b.disk.live.end(), to)
			s.result.Truncated++
			b.disk.truncate(to)
		}
	case fetchReset:
		if m.epoch != f.Epoch() {
			return
		}
		reset, err := f.Reset(m.answer.Offset)
		if !s.check(err) {
			return
		}
		if reset {
			s.logf("broker %d begins anew at %d", b.index+1, m.answer.Offset)
			s.result.Resets++
			b.disk.begin(m.answer.Offset, b.replica.ResetEpoch())
		}
	}
	s.fetch(b, false)
}

func (s *Sim) takeData(b *broker, f *replication.Follower, m *message) {
	before := f.Next().Round
	accept, err := f.Receive(m.data)
	if !s.check(err) {
		return
	}
	if !accept {
		if f.Next().Round != before {
			s.fetch(b, false)
		}
		return
	}
	recs := m.recs[:m.count]
	b.disk.append(recs...)
	for i, base := 0, m.data.Base; i < len(recs); {
		n := i + 1
		for n < len(recs) && recs[n].epoch == recs[i].epoch {
			n++
		}
		if !s.check(f.Appended(recs[i].epoch, base+int64(i), base+int64(n))) {
			return
		}
		i = n
	}
	s.fetch(b, false)
}

// produce appends a client's record unless it is there already.
func (s *Sim) produce(b *broker, m *message) {
	l := b.replica.Leader()
	if l == nil || !l.Serving() {
		hint := b.replica.LeaderMember().Node
		s.send(message{kind: produceAnswer, from: b.index, to: m.from, attempt: m.attempt, result: notLeader, epoch: hint})
		return
	}
	producer, sequence := m.value>>24, m.value&sequenceMask
	last := b.last[producer]
	end := last.offset + 1
	switch {
	case sequence < last.sequence:
		return // a late copy; the client has gone on
	case sequence > last.sequence:
		s.appendAsLeader(b, m.value)
		end = l.End()
	}
	b.waiting = append(b.waiting, waiter{m.from, m.attempt, m.value, m.acks, end})
}

// pump does what follows from whatever has changed at a broker.
func (s *Sim) pump(b *broker) {
	if !b.up || s.err != nil {
		return
	}
	if len(b.disk.writes) > 0 && !b.disk.syncing {
		b.disk.syncing = true
		delay := 100 + s.upTo(s.profile.sync)*s.profile.disks[b.index]
		if s.chance(s.profile.slowSync) {
			delay *= 20
		}
		s.after(delay, event{kind: onSync, who: b.index, life: b.life, arg: int32(len(b.disk.writes))})
	}
	l := b.replica.Leader()
	if b.leads != 0 && (l == nil || l.Epoch() != b.leads) {
		s.stopLeading(b)
	}
	s.checkHighWatermark(b)
	if l != nil && s.err == nil {
		s.answerClients(b, l)
		for i := range b.standing {
			s.push(b, l, &b.standing[i])
		}
	}
}

func (s *Sim) stopLeading(b *broker) {
	for _, w := range b.waiting {
		s.send(message{kind: produceAnswer, from: b.index, to: w.client, attempt: w.attempt, result: notLeader})
	}
	for _, q := range b.questions {
		s.send(message{kind: endAnswer, from: b.index, to: q.client, attempt: q.attempt, result: notLeader})
	}
	b.leads, b.waiting, b.questions, b.standing = 0, b.waiting[:0], b.questions[:0], b.standing[:0]
}

func (s *Sim) answerClients(b *broker, l *replication.Leader) {
	kept := b.waiting[:0]
	for _, w := range b.waiting {
		enough := l.HighWatermark()
		switch w.acks {
		case acksLeader:
			enough = b.replica.DurableEnd()
		case acksAll:
			enough = min(enough, l.DurableOnAll())
		}
		if w.end > enough {
			kept = append(kept, w)
			continue
		}
		s.checkAcked(b, w)
		s.send(message{kind: produceAnswer, from: b.index, to: w.client, attempt: w.attempt})
	}
	b.waiting = kept
	questions := b.questions[:0]
	for _, q := range b.questions {
		if q.round > l.RoundDone() && !s.breaks.AnswerWithoutRound {
			questions = append(questions, q)
			continue
		}
		s.send(message{kind: endAnswer, from: b.index, to: q.client, attempt: q.attempt, offset: l.HighWatermark()})
	}
	b.questions = questions
}

// push sends a follower what it does not have on its way yet.
func (s *Sim) push(b *broker, l *replication.Leader, st *standing) {
	for st.started {
		end := min(l.End(), st.sent+s.profile.batch)
		if d := b.disk; d.holeTo > d.holeFrom && end > d.holeFrom && st.sent < d.holeTo {
			end = max(d.holeFrom, st.sent) // damaged records are not served
		}
		if end == st.sent && st.hw == l.HighWatermark() && st.round == l.Round() {
			return
		}
		if st.sent < l.Start() {
			st.started = false // the next fetch is told so
			return
		}
		m := message{
			kind: fetchData, from: b.index, to: st.from, life: st.life,
			data: l.Data(st.sent, end), count: uint8(end - st.sent),
		}
		if end > st.sent {
			s.speak(b)
		}
		copy(m.recs[:], b.disk.live.log[st.sent:end])
		st.sent, st.hw, st.round = end, l.HighWatermark(), l.Round()
		s.send(m)
	}
}

// synced takes in that the first n writes are on the disk.
func (s *Sim) synced(b *broker, n int) {
	d := b.disk
	d.syncing = false
	fences := false
	d.settle(n, func(w write) { fences = fences || w.kind == writeFence })
	d.durable.hint = max(d.durable.start, min(b.highWatermark, d.synced())) // of the log as it is on the disk
	if end := d.synced(); end > b.replica.DurableEnd() {
		if _, err := b.replica.Durable(end); !s.check(err) {
			return
		}
	}
	// A newer fence may have been adopted meanwhile: the vote is for that one, and waits
	// for it.
	if fences && d.durable.fence >= b.replica.FenceEpoch() {
		s.vote(b)
	}
	s.fetch(b, false)
}

// fence answers a controller once the fence is on the disk.
func (s *Sim) fence(b *broker, m *message) {
	persist, err := b.replica.Fence(m.epoch)
	if errors.Is(err, replication.ErrFenced) || !s.check(err) {
		return
	}
	if persist && b.disk.durable.fence < m.epoch {
		b.disk.adopt(m.epoch)
		if !s.breaks.VoteBeforeSync {
			return
		}
	}
	s.vote(b)
}

// vote tells both controllers: one of them asked.
func (s *Sim) vote(b *broker) {
	v := b.replica.Vote()
	b.disk.voted = max(b.disk.voted, v.Epoch)
	for i := range s.controllers {
		s.send(message{kind: fenceVote, from: b.index, to: uint8(len(s.brokers) + i), vote: v, sender: b.life})
	}
}
