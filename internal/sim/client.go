package sim

const (
	maxBrokers   = 5
	maxClients   = 4
	sequenceMask = 1<<24 - 1
)

// client is an idempotent producer with one request at a time, which it repeats until
// it is answered. Now and then it asks for the end instead.
type client struct {
	index    uint8
	attempt  int32
	busy     bool
	asks     bool // for the end, not to produce
	least    int64
	sequence uint32
	acks     acks
	target   int // broker
	after    int // requests done since everything healed
}

const clientTimeout = 60_000 // microseconds

// wake is called when the client may go on, or when an attempt took too long.
func (c *client) wake(s *Sim, attempt int32) {
	if attempt != c.attempt {
		return // answered meanwhile
	}
	if !c.busy {
		if s.healing && c.after > 0 {
			return
		}
		c.next(s)
	} else if s.chance(0.7) {
		c.target = s.pick(len(s.brokers))
	}
	c.try(s)
}

// next begins a new request.
func (c *client) next(s *Sim) {
	c.busy = true
	c.asks = s.chance(0.1)
	c.least = int64(len(s.checker.committed))
	if c.asks {
		if s.chance(0.5) {
			c.target = s.pick(len(s.brokers))
		}
		return
	}
	c.sequence++
	switch {
	case s.healing || s.chance(0.7):
		c.acks = acksQuorum
	case s.chance(0.5):
		c.acks = acksAll
	default:
		c.acks = acksLeader
	}
}

func (c *client) try(s *Sim) {
	c.attempt++
	m := message{
		kind: produceRequest, from: c.endpoint(s), to: uint8(c.target), attempt: c.attempt,
		value: uint32(c.index)<<24 | c.sequence, acks: c.acks,
	}
	if c.asks {
		m.kind = endRequest
	}
	s.send(m)
	s.after(clientTimeout, event{kind: onClient, who: c.index, arg: c.attempt})
}

func (c *client) endpoint(s *Sim) uint8 { return uint8(len(s.brokers)+len(s.controllers)) + c.index }

func (c *client) receive(s *Sim, m *message) {
	if !c.busy || m.attempt != c.attempt {
		return // late
	}
	c.attempt++
	delay := s.upTo(s.profile.think)
	if m.result == notLeader {
		c.target = s.pick(len(s.brokers))
		if m.epoch > 0 && s.chance(0.8) {
			c.target = int(m.epoch) - 1
		}
		delay += 2000
	} else {
		c.busy = false
		s.result.Acked++
		if s.healing {
			c.after++
		}
		if c.asks {
			s.result.Ends++
			if m.offset < c.least {
				s.fail("a client is told that the partition ends at %d, %d were committed when it asked", m.offset, c.least)
			}
		}
	}
	s.after(delay, event{kind: onClient, who: c.index, arg: c.attempt})
}
