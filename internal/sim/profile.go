package sim

// profile is what a seed is like: which faults there are and how often. Every seed
// leaves some out, so that the others get further.
type profile struct {
	brokers, replicas, clients int

	length  int64 // of the part with faults, microseconds
	tick    int64 // between heartbeats and repeated fetches
	control int64 // between looks of a controller
	session int64 // silence after which a broker counts as dead
	learn   int64 // greatest usual delay of metadata
	think   int64 // greatest pause of clients
	sync    int64 // greatest usual duration of a sync

	delay                   int64
	loss, duplication, slow float64
	slowSync                float64
	move, change            float64           // per look of a controller
	retention               float64           // per tick
	doomed                  float64           // leaders that fail soon after they begin
	oneMute                 bool              // who falls silent takes the place of the one before
	doomWithin              int64             // microseconds
	batch                   int64             // records per message
	disks                   [maxBrokers]int64 // how many times slower than the fastest

	restart    int64 // greatest time that a crashed broker stays away
	faultEvery int64
	faults     [faultKinds]int // weights
	keepAll    bool            // crashes lose nothing

	stub         bool  // the simpler controller
	replaceAfter int64 // a broker dead for so long is replaced
}

func (s *Sim) drawProfile() profile {
	p := profile{
		brokers: max(3, 1+s.pick(5)), clients: 1 + s.pick(maxClients), length: 1_500_000,
		tick: 15_000 + s.upTo(20_000), control: 10_000 + s.upTo(20_000), session: 60_000 + s.upTo(60_000),
		learn: 2_000 + s.upTo(30_000), think: 1_000 + s.upTo(15_000), sync: 500 + s.upTo(5_000),
		delay: 500 + s.upTo(5_000), faultEvery: 20_000 + s.upTo(80_000),
	}
	p.replicas = min(3, p.brokers)
	switch {
	case s.chance(0.05):
		p.replicas = 1
	case s.chance(0.05):
		p.replicas = 2
	case p.brokers == 5 && s.chance(0.3):
		p.replicas = 5
	}
	some := func(p float64, to *float64, most float64) {
		if s.chance(p) {
			*to = most * s.rng.Float64()
		}
	}
	some(0.5, &p.loss, 0.1)
	some(0.5, &p.duplication, 0.1)
	some(0.6, &p.slow, 0.1)
	some(0.5, &p.slowSync, 0.1)
	some(0.7, &p.move, 0.15)
	some(0.5, &p.change, 0.1)
	some(0.4, &p.retention, 0.1)
	for i := range p.faults {
		if s.chance(0.6) {
			p.faults[i] = 1 + s.pick(4)
		}
	}
	if p.replicas < 3 {
		p.faults[faultWipe], p.faults[faultDamage] = 0, 0 // there is no minority to fail
	}
	if p.faults[faultIsolate]+p.faults[faultOneWay] > 0 {
		p.faults[faultReconnect] = 3
	}
	p.keepAll = s.chance(0.1)
	p.stub = s.chance(0.5) || s.breaks.needStub()
	p.replaceAfter = 100_000_000
	if s.chance(0.3) {
		p.replaceAfter = 200_000 + s.upTo(500_000)
	}
	p.restart = 20_000 + s.upTo(200_000)
	if s.chance(0.3) {
		s.storm(&p)
	}
	some(0.5, &p.doomed, 0.8)
	p.doomWithin = p.delay * (2 + s.upTo(12))
	p.batch = 1
	if s.chance(0.5) {
		p.batch = 1 + s.upTo(batchMax)
	}
	for i := range p.disks {
		p.disks[i] = 1
		if s.chance(0.4) {
			p.disks[i] = 1 + s.upTo(10)
		}
	}
	return p
}

// storm makes a profile one of many short epochs: leaders fail as soon as they have
// written something, and come back soon with what they had.
func (s *Sim) storm(p *profile) {
	p.stub = true
	p.brokers, p.replicas, p.clients, p.batch = 3, 3, 1, 1
	p.tick, p.control, p.session = 6_000+s.upTo(12_000), 2_000+s.upTo(4_000), 25_000+s.upTo(20_000)
	p.learn, p.delay, p.sync = 1_000+s.upTo(2_000), 300+s.upTo(1_000), 200+s.upTo(1_000)
	p.doomed, p.doomWithin, p.restart = 0.5+0.5*s.rng.Float64(), 1_000+s.upTo(12_000), 5_000+s.upTo(60_000)
	p.loss = 0.2 * s.rng.Float64()
	p.retention, p.keepAll, p.oneMute = 0, s.chance(0.7), s.chance(0.7)
	p.faults = [faultKinds]int{faultCrash: s.pick(2), faultReconnect: 4 + s.pick(4), faultLeader: 1}
	p.faultEvery = 10_000 + s.upTo(30_000)
	p.change, p.length = 0, 1_000_000
	for i := range p.disks {
		p.disks[i] = 1 + s.upTo(12)
	}
}
