package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Options of a run. Zero fields take the defaults named here.
type Options struct {
	Binary      string        // built by Build
	Dir         string        // for everything; must be empty
	Brokers     int           // default 3
	Partitions  int           // default 8
	Producers   int           // default 4
	Consumers   int           // default 2
	Rate        int           // records a second, default 2000
	RecordBytes int           // default 128
	Duration    time.Duration // of faults; default 30 s
	Hold        time.Duration // about how long one fault lasts; default 1.5 s
	Patience    time.Duration // after which something is stuck; default 60 s
	Seed        uint64
	Faults      []Fault // default all; with several each injection is one of them
	Say         func(format string, args ...any)
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		v     *int
		value int
	}{{&o.Brokers, 3}, {&o.Partitions, 8}, {&o.Producers, 4}, {&o.Consumers, 2}, {&o.Rate, 2000}, {&o.RecordBytes, 128}} {
		if *d.v == 0 {
			*d.v = d.value
		}
	}
	for _, d := range []struct {
		v     *time.Duration
		value time.Duration
	}{{&o.Duration, 30 * time.Second}, {&o.Hold, 1500 * time.Millisecond}, {&o.Patience, time.Minute}} {
		if *d.v == 0 {
			*d.v = d.value
		}
	}
	if len(o.Faults) == 0 {
		o.Faults = Faults()
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	return o
}

// Injection is one fault of a run, and for how long some partition acknowledged nothing in its time.
type Injection struct {
	Fault    string        `json:"fault"`
	At       time.Duration `json:"atNs"`
	Took     time.Duration `json:"tookNs"`
	Longest  time.Duration `json:"longestPauseNs"`
	Recovery time.Duration `json:"recoveryNs"` // from healing until every partition acknowledged something sent after it
}

// Result is the outcome of a run.
type Result struct {
	Seed                  uint64      `json:"seed"`
	Sent                  int         `json:"sent"`
	Acked                 int         `json:"acknowledged"`
	Failed                int         `json:"failed"`
	Injections            []Injection `json:"injections"`
	Errors                []string    `json:"errors"` // of failed sends, the first ones
	Violations            []Violation `json:"violations"`
	Elapsed               time.Duration
	MedianAck, HighestAck time.Duration // from call to acknowledgement
}

// Run does one run. This process must run isolated. The error is that of the run itself, not of what it found.
func Run(ctx context.Context, o Options) (result Result, err error) {
	o = o.withDefaults()
	result.Seed = o.Seed
	hosts, needRecord := o.Brokers, false
	for _, f := range o.Faults {
		needRecord = needRecord || f.record
		if f.spare {
			hosts = o.Brokers + 1
		}
		if f.small {
			if err := smallDisk(filepath.Join(o.Dir, fmt.Sprintf("broker%d", o.Brokers))); err != nil {
				return result, err
			}
		}
	}
	l, err := newLab(hosts)
	if err != nil {
		return result, err
	}
	defer l.close()
	c, err := newCluster(l, o.Binary, o.Dir, o.Brokers, needRecord, o.Say)
	if err != nil {
		return result, err
	}
	defer c.close()
	began := time.Now()
	starting, cancel := context.WithTimeout(ctx, o.Patience)
	defer cancel()
	if err := c.until(starting, func(s status) string { return s.missing(1, 2, 3) }); err != nil {
		return result, fmt.Errorf("the cluster does not form: %w", err)
	}
	h := &History{}
	ld, err := startLoad(ctx, c.servers(), h, o)
	if err != nil {
		return result, err
	}
	defer func() { _ = ld.close() }()
	i := &injector{cluster: c, load: ld, rng: rand.New(rand.NewPCG(o.Seed, 7)), hold: o.Hold}
	result.Injections, err = i.run(ctx, o)
	if err != nil {
		h.Stuck = append(h.Stuck, err.Error())
	}
	o.Say("all is healed; waiting for outstanding sends and reading everything")
	ld.finish(ctx, o.Patience)
	h.Replicas, err = c.readReplicas(ctx, o)
	if err != nil {
		h.Stuck = append(h.Stuck, err.Error())
	}
	result.Sent, result.Acked, result.Failed = h.counts()
	result.Errors = h.errors(5)
	result.MedianAck, result.HighestAck = h.latencies()
	acks := h.ackTimes(o.Partitions)
	for n := range result.Injections {
		in := &result.Injections[n]
		in.Longest = longestPause(acks, in.At, in.At+in.Took+in.Recovery)
	}
	result.Violations, result.Elapsed = Check(h), time.Since(began)
	return result, ctx.Err()
}

// run injects faults until the time is over. Whatever happens, all is healed at the end.
func (i *injector) run(ctx context.Context, o Options) (list []Injection, err error) {
	patient := func(fn func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, o.Patience)
		defer cancel()
		return fn(ctx)
	}
	if err := patient(func(ctx context.Context) error { return i.load.recovered(ctx, 0) }); err != nil {
		return nil, err
	}
	for end := time.Now().Add(o.Duration); time.Now().Before(end) && ctx.Err() == nil; {
		f := o.Faults[i.rng.IntN(len(o.Faults))]
		in := Injection{Fault: f.Name, At: i.load.since()}
		err = patient(func(ctx context.Context) error { return f.inject(i, ctx) })
		healed := i.load.since()
		in.Took = healed - in.At
		if err == nil {
			err = patient(func(ctx context.Context) error { return i.load.recovered(ctx, healed) })
		}
		in.Recovery = i.load.since() - healed
		list = append(list, in)
		if err == nil {
			err = patient(i.complete)
		}
		if died := i.died(i.wanted()); err == nil && len(died) > 0 {
			err = errors.New(died[0])
		}
		if err != nil {
			err = fmt.Errorf("after %s: %w", f.Name, err)
			break
		}
		if err := i.wait(ctx, i.about(i.hold/2)); err != nil {
			break
		}
	}
	return list, errors.Join(err, i.restore())
}

// wanted is the brokers that should run.
func (i *injector) wanted() map[int]bool {
	wanted := map[int]bool{}
	for _, n := range i.nodes[:i.first] {
		wanted[n.number] = true
	}
	return wanted
}

// restore heals what a failed injection left.
func (i *injector) restore() error {
	err := i.lab.heal()
	for _, n := range i.nodes[:i.first] {
		if n.running() {
			err = errors.Join(err, i.signal(n, syscall.SIGCONT))
		} else {
			err = errors.Join(err, i.start(n))
		}
	}
	return err
}

// smallDisk puts a file system of its own under a directory. It goes with the mount namespace.
func smallDisk(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	// Nothing that is mounted here may show outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=1g"); err != nil {
		return fmt.Errorf("mount a small disk at %s: %w", dir, err)
	}
	return nil
}

// latencies returns the median and the highest time to an acknowledgement.
func (h *History) latencies() (median, highest time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []time.Duration
	for n := range h.Sends {
		if s := &h.Sends[n]; s.Acked > 0 {
			all = append(all, s.Acked-s.Invoked)
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}
