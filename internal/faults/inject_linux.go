package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs/rewind"
)

// Fault is something that goes wrong in a run, again and again.
type Fault struct {
	Name, What string
	// Each inject does it once, heals it and returns: the cluster must come right by itself then.
	inject func(i *injector, ctx context.Context) error
	record bool // needs notes for power cuts
	spare  bool // needs a broker that is not there at the beginning
	small  bool // needs a small disk under the last broker
}

// Faults lists all of them, in the order in which a run with all has them.
func Faults() []Fault {
	return []Fault{
		{Name: "kill", What: "a broker is killed and started again", inject: (*injector).kill},
		{Name: "pause", What: "a broker stands still for longer than its session", inject: (*injector).pause},
		{Name: "partition", What: "a broker is cut off from the others", inject: (*injector).partition},
		{Name: "one-way", What: "what a broker sends to the others is lost, or what they send to it", inject: (*injector).oneWay},
		{Name: "flap", What: "a cable comes and goes", inject: (*injector).flap},
		{Name: "power", What: "all brokers lose power at once, with what was not synced", inject: (*injector).power, record: true},
		{Name: "wipe", What: "a broker loses its disk", inject: (*injector).wipe},
		{Name: "bit-flip", What: "bits of a broker's files change while it is down", inject: (*injector).bitFlip},
		{Name: "full", What: "the disk of a broker is full for a while", inject: (*injector).full, small: true},
		{Name: "membership", What: "a broker joins, takes its share, and leaves for good", inject: (*injector).membership, spare: true},
		{Name: "rolling", What: "all brokers are restarted, one after the other", inject: (*injector).rolling},
	}
}

// injector does faults to a cluster under load.
type injector struct {
	*cluster
	load *load
	rng  *rand.Rand
	hold time.Duration // about how long a fault lasts
}

// victim is any of the first brokers.
func (i *injector) victim() *node { return i.nodes[i.rng.IntN(i.first)] }

// wait lets a fault last.
func (i *injector) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// about is between half and one and a half of d.
func (i *injector) about(d time.Duration) time.Duration {
	return d/2 + time.Duration(i.rng.Int64N(int64(d)))
}

func (i *injector) kill(ctx context.Context) error {
	n := i.victim()
	i.say("kill %s", n.name())
	if err := i.cluster.kill(n); err != nil {
		return err
	}
	if err := i.wait(ctx, i.about(i.hold)); err != nil {
		return err
	}
	return i.start(n)
}

func (i *injector) pause(ctx context.Context) error {
	n := i.victim()
	i.say("pause %s", n.name())
	if err := i.signal(n, syscall.SIGSTOP); err != nil {
		return err
	}
	err := i.wait(ctx, i.about(i.hold))
	return errors.Join(err, i.signal(n, syscall.SIGCONT))
}

func (i *injector) partition(ctx context.Context) error {
	n := i.victim()
	i.say("cut %s off", n.name())
	if err := i.lab.cutBoth(map[int]bool{n.number: true}); err != nil {
		return err
	}
	err := i.wait(ctx, i.about(i.hold))
	return errors.Join(err, i.lab.heal())
}

func (i *injector) oneWay(ctx context.Context) error {
	n, out := i.victim(), i.rng.IntN(2) == 0
	i.say("lose what %s %s", n.name(), map[bool]string{true: "sends", false: "is sent"}[out])
	for _, m := range i.nodes {
		from, to := n.number, m.number
		if !out {
			from, to = to, from
		}
		if m != n {
			if err := i.lab.cut(from, to); err != nil {
				return err
			}
		}
	}
	err := i.wait(ctx, i.about(i.hold))
	return errors.Join(err, i.lab.heal())
}

func (i *injector) flap(ctx context.Context) error {
	a := i.victim()
	b := i.nodes[(a.number+i.rng.IntN(i.first-1))%i.first]
	i.say("the cable between %s and %s comes and goes", a.name(), b.name())
	for end := time.Now().Add(i.about(i.hold)); time.Now().Before(end); {
		if err := errors.Join(i.lab.cut(a.number, b.number), i.lab.cut(b.number, a.number), i.wait(ctx, i.about(200*time.Millisecond)),
			i.lab.heal(), i.wait(ctx, i.about(200*time.Millisecond))); err != nil {
			return err
		}
	}
	return nil
}

// power cuts the power of all: every process is killed at the same moment, and a part of what was not synced is lost.
func (i *injector) power(ctx context.Context) error {
	keep := []float64{0, 0.2, 0.5, 0.8, 1}[i.rng.IntN(5)]
	i.say("cut the power of all, %.0f%% of what was not synced survives", keep*100)
	var up []*node
	for _, n := range i.nodes {
		if n.running() {
			up = append(up, n)
			if err := i.signal(n, syscall.SIGKILL); err != nil {
				return err
			}
		}
	}
	for _, n := range up {
		if err := i.gone(n, time.Minute); err != nil {
			return err
		}
		if _, err := rewind.Undo(n.dir, n.side, keep, i.rng); err != nil {
			return err
		}
	}
	for _, n := range up {
		if err := i.start(n); err != nil {
			return err
		}
	}
	return nil
}

func (i *injector) wipe(ctx context.Context) error {
	n := i.victim()
	i.say("wipe the disk of %s", n.name())
	if err := i.cluster.kill(n); err != nil {
		return err
	}
	if err := os.RemoveAll(n.dir); err != nil {
		return err
	}
	if err := i.wait(ctx, i.about(i.hold)); err != nil {
		return err
	}
	if err := i.start(n); err != nil {
		return err
	}
	return i.complete(ctx)
}

// bitFlip changes one bit in a file of each kind that a broker has.
func (i *injector) bitFlip(ctx context.Context) error {
	n := i.victim()
	if err := i.cluster.kill(n); err != nil {
		return err
	}
	kinds := map[string][]string{}
	err := filepath.WalkDir(n.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "quarantine-") {
			return filepath.SkipDir // nobody reads it
		}
		if err == nil && d.Type().IsRegular() && d.Name() != "lock" && d.Name() != "ballast" {
			kinds[fileKind(n.dir, path)] = append(kinds[fileKind(n.dir, path)], path)
		}
		return err
	})
	if err != nil {
		return err
	}
	names := make([]string, 0, len(kinds))
	for kind := range kinds {
		names = append(names, kind)
	}
	slices.Sort(names)
	kind := names[i.rng.IntN(len(names))]
	path := kinds[kind][i.rng.IntN(len(kinds[kind]))]
	i.say("flip a bit of %s in %s", path[len(n.dir)+1:], n.name())
	if err := flipBit(path, i.rng); err != nil {
		return err
	}
	if err := i.start(n); err != nil {
		return err
	}
	return i.complete(ctx)
}

// fileKind is what a file is, by its place and ending.
func fileKind(dir, path string) string {
	rel, _ := filepath.Rel(dir, path)
	first, _, _ := strings.Cut(rel, string(filepath.Separator))
	base := filepath.Base(rel)
	if strings.HasPrefix(base, "producers.") {
		return first + "/producers"
	}
	return first + "/" + filepath.Ext(base)
}

func flipBit(path string, rng *rand.Rand) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	at, b := rng.Int64N(info.Size()), make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1 << rng.IntN(8)
	_, err = f.WriteAt(b, at)
	return err
}

// full fills the disk of the last of the first brokers, which is a small one.
func (i *injector) full(ctx context.Context) error {
	n := i.nodes[i.first-1]
	i.say("fill the disk of %s", n.name())
	ballast := filepath.Join(filepath.Dir(n.dir), "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		return err
	}
	chunk := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return errors.Join(err, f.Close())
	}
	err = i.wait(ctx, i.about(i.hold))
	return errors.Join(err, f.Close(), os.Remove(ballast))
}

// membership starts the spare broker, gives it its share, and takes it out again.
func (i *injector) membership(ctx context.Context) error {
	spare := i.nodes[i.first]
	i.say("%s joins", spare.name())
	if err := os.RemoveAll(spare.dir); err != nil {
		return err
	}
	if err := i.start(spare); err != nil {
		return err
	}
	if err := i.until(ctx, func(s status) string { return s.missing(spare.number) }); err != nil {
		return err
	}
	if _, err := i.command(ctx, "cluster", "rebalance", "--wait"); err != nil {
		return err
	}
	i.say("%s leaves", spare.name())
	if _, err := i.command(ctx, "cluster", "remove", fmt.Sprint(spare.number), "--wait"); err != nil {
		return err
	}
	if spare.running() {
		if err := i.stop(spare); err != nil && spare.running() {
			return err
		}
	}
	return nil // a broker that was removed may end by itself
}

func (i *injector) rolling(ctx context.Context) error {
	for _, n := range i.nodes[:i.first] {
		i.say("restart %s", n.name())
		if err := i.stop(n); err != nil {
			return err
		}
		if err := i.start(n); err != nil {
			return err
		}
		if err := i.complete(ctx); err != nil {
			return err
		}
	}
	return nil
}
