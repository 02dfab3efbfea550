package log

import (
	"fmt"
	"slices"
)

// replaceSegments puts one rewritten segment in the place of a run of sealed ones: the last step of compaction. The new
// file, named by with and of the partition's next generation, must be complete and synced, its name too, and so must be
// all segments up to the run, of which an unjournaled partition has no other copy; with.size == 0 says that nothing was
// left to keep and there is no file. The change is atomic: after a crash the log consists of the old files or the new
// one. c (may be nil) is told when it is durable; the old files go some time after that.
func (p *Partition) replaceSegments(replaced []*segment, with segmentState, c Completion) error {
	p.write.Lock()
	defer p.write.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	r := replacement{end: p.end, generation: with.generation, with: with}
	for _, g := range replaced {
		r.replaced = append(r.replaced, g.segmentName)
	}
	return p.replaceLocked(replaced, r, c)
}

// replaceLocked queues a replacement and carries it out. The caller holds write and mu.
func (p *Partition) replaceLocked(replaced []*segment, r replacement, c Completion) error {
	if _, err := p.findRun(r); err != nil {
		return err
	}
	if err := p.note(entryReplace, encodeReplace(r), afterAdvance{p.s, c, slices.Clone(replaced)}); err != nil {
		return err
	}
	_, err := p.exchange(r)
	return err
}

// nextGeneration is the generation for a file that will replace segments.
func (p *Partition) nextGeneration() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.generation + 1
}

// findRun locates the segments that a replacement names. The caller holds mu.
func (p *Partition) findRun(r replacement) (int, error) {
	at := slices.IndexFunc(p.segments, func(g *segment) bool { return len(r.replaced) > 0 && g.segmentName == r.replaced[0] })
	if at < 0 || at+len(r.replaced) > len(p.segments) || r.generation <= p.generation || r.with.generation != r.generation {
		return 0, fmt.Errorf("replace segments of partition %s: %w", p.id, errChanged)
	}
	for i, name := range r.replaced {
		if p.segments[at+i].segmentName != name {
			return 0, fmt.Errorf("replace segments of partition %s: %w", p.id, errChanged)
		}
	}
	return at, nil
}

// exchange carries a replacement out in memory. The caller holds write and mu.
func (p *Partition) exchange(r replacement) ([]*segment, error) {
	at, err := p.findRun(r)
	if err != nil {
		return nil, err
	}
	old := p.segments[at : at+len(r.replaced)]
	list := append([]*segment(nil), p.segments[:at]...)
	if r.with.size > 0 {
		list = append(list, &segment{
			p: p, segmentState: r.with, synced: r.with.size, namesSaved: true, writeback: r.with.size, found: r.with.size,
		})
	}
	p.sealed = p.sealed || at+len(old) == len(p.segments) // a rewritten file does not grow
	p.segments = append(list, p.segments[at+len(old):]...)
	p.generation = r.generation
	p.hints = nil
	p.dropHoles()
	return old, nil
}
