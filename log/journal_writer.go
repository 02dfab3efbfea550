package log

import (
	"fmt"
	"hash/crc32"
	"time"

	"github.com/sequitur-mq/sequitur/internal/vfs"
)

// run is the writer goroutine.
func (j *journal) run() {
	defer j.done.Done()
	defer j.end()
	for {
		batch, err := j.next()
		if batch == nil {
			return
		}
		rest := batch
		for len(rest) > 0 && err == nil {
			var n int
			if n, err = j.writeGroup(rest); err != nil {
				break
			}
			last := n == len(rest)
			j.complete(completion{tickets: rest[:n]}, batch, last)
			rest = rest[n:]
		}
		if err != nil {
			j.onFail(err)
			j.complete(completion{tickets: rest, err: j.latched(err)}, batch, true)
		}
	}
}

// end lets the completer and the keeper finish after the writer.
func (j *journal) end() {
	j.mu.Lock()
	j.ended = true
	j.mu.Unlock()
	j.keep.Broadcast()
	j.completer.close()
}

// next waits for tickets and takes all there are. It returns nil when there is nothing more to come, and an error
// with tickets that must be failed.
func (j *journal) next() ([]ticket, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.queue) == 0 {
		if j.closing {
			return nil, nil
		}
		j.waiting = true
		j.wake.Wait()
	}
	j.waiting = false
	batch := j.queue
	j.queue = nil
	if n := len(j.spares); n > 0 {
		j.queue, j.spares = j.spares[n-1], j.spares[:n-1]
	}
	return batch, j.err
}

// latched returns the error that the store latched, never nil: at the least the cause at hand.
func (j *journal) latched(cause error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		return &storageError{cause}
	}
	return j.err
}

// complete runs completions here if nothing else is to be done, else hands them to the completer.
func (j *journal) complete(d completion, batch []ticket, last bool) {
	mayInline := false
	if last {
		d.whole = batch
		j.mu.Lock()
		mayInline = len(j.queue) == 0
		j.mu.Unlock()
	}
	if j.completer.add(d, mayInline) {
		d.run()
		j.recycleTickets(batch)
	}
}

func (j *journal) recycleTickets(batch []ticket) {
	clear(batch)
	if cap(batch) > 1<<16 {
		return
	}
	j.mu.Lock()
	if len(j.spares) < 4 {
		j.spares = append(j.spares, batch[:0])
	}
	j.mu.Unlock()
}

// writeGroup writes as many of the tickets as fit one group and returns how many, when they are durable.
func (j *journal) writeGroup(tickets []ticket) (int, error) {
	n, size := j.measure(tickets)
	jf, at, err := j.place(size)
	if err != nil {
		return 0, err
	}
	buf := j.layout(tickets[:n], size, jf, at)
	start := time.Now()
	if _, err := jf.f.WriteAt(buf, at.off); err != nil {
		return 0, fmt.Errorf("write journal: %w", err)
	}
	if !jf.direct {
		if err := jf.f.Sync(); err != nil {
			return 0, fmt.Errorf("sync journal: %w", err)
		}
	}
	j.stats.sync.Add(time.Since(start))
	j.stats.groups.Add(1)
	j.stats.appends.Add(uint64(n))
	j.stats.bytes.Add(uint64(size))
	j.stats.padding.Add(uint64(len(buf) - size))
	return n, nil
}

// measure decides how many tickets go into the next group: at least one, else no more than maxGroup bytes.
func (j *journal) measure(tickets []ticket) (n, size int) {
	size = groupHeaderSize
	for i := range tickets {
		need := entryHeaderSize + len(tickets[i].data)
		if i > 0 && size+need > j.maxGroup {
			break
		}
		size += need
		n++
	}
	return n, size
}

// layout copies a group into the aligned buffer, with its checksums and the padding.
func (j *journal) layout(tickets []ticket, size int, jf *journalFile, at position) []byte {
	total := int(padded(int64(size)))
	if total > len(j.buf) {
		j.buf = vfs.AlignedBuffer(total)
	}
	buf := j.buf[:total]
	h := groupHeader{length: uint32(size), lap: jf.groupLap, number: at.group, firstSeq: j.seqOf, entries: uint32(len(tickets))}
	j.seqOf += uint64(len(tickets))
	crc := h.put(buf, jf.groupSalt, at.off)
	w := groupHeaderSize
	for i := range tickets {
		t := &tickets[i]
		entryHeader{kind: t.kind, flags: t.flags, number: t.number, length: uint32(len(t.data)), crc: t.crc}.put(buf[w:])
		crc = crc32.Update(crc, castagnoli, buf[w:w+entryHeaderSize])
		w += entryHeaderSize
		w += copy(buf[w:], t.data)
	}
	putEntriesCRC(buf, crc)
	clear(buf[w:])
	return buf
}

// place finds the file and position for a group of size bytes, going to the next file where this one is full, and
// advances the position.
func (j *journal) place(size int) (*journalFile, position, error) {
	need := padded(int64(size))
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		jf := j.live[len(j.live)-1]
		if j.at.off+need <= jf.size {
			at := j.at
			j.at.off += need
			j.at.group++
			if j.sinceCheckpoint += need; j.sinceCheckpoint >= j.maxBytes/4 {
				j.sinceCheckpoint = 0
				j.wantCheckpoint()
			}
			if len(j.free) == 0 && !j.wantFile && !j.noRoom && j.at.off > jf.size/8 {
				j.wantFile = true
				j.keep.Signal()
			}
			return jf, at, nil
		}
		if err := j.awaitFile(); err != nil {
			return nil, position{}, err
		}
		j.mu.Unlock()
		err := j.beginLap()
		j.mu.Lock()
		if err != nil {
			return nil, position{}, err
		}
	}
}

// awaitFile waits until a blank file may be taken into use. The caller holds j.mu.
func (j *journal) awaitFile() error {
	stalled := false
	for j.err == nil {
		if len(j.free) > 0 && (len(j.live) < 2 || j.liveBytes()+j.free[0].size <= j.maxBytes) {
			return nil
		}
		if !stalled {
			stalled = true
			j.stats.stalls.Add(1)
		}
		if j.noRoom && j.closing {
			return fmt.Errorf("no room for another journal file: %w", ErrStorageFull)
		}
		if len(j.free) == 0 && !j.noRoom {
			j.wantFile = true
			j.keep.Signal()
		}
		j.wantCheckpoint()
		j.wake.Wait()
	}
	return j.err
}

// beginLap takes the first blank file into use: its new header, made durable, names the lap and where the one before
// it ended.
func (j *journal) beginLap() error {
	j.mu.Lock()
	jf, prev := j.free[0], j.at
	j.free = append(j.free[:0], j.free[1:]...)
	j.mu.Unlock()
	jf.fileHeader = fileHeader{lap: prev.lap + 1, size: jf.size, disk: j.disk, salt: newSalt(), prev: prev}
	j.identify(&jf.fileHeader)
	block := vfs.AlignedBuffer(journalBlock)
	jf.putBlock(block)
	if _, err := jf.f.WriteAt(block, 0); err != nil {
		return fmt.Errorf("begin journal lap: %w", err)
	}
	if !jf.direct {
		if err := jf.f.Sync(); err != nil {
			return fmt.Errorf("begin journal lap: %w", err)
		}
	}
	j.stats.switches.Add(1)
	j.mu.Lock()
	j.live = append(j.live, jf)
	j.at = position{lap: jf.lap, off: journalDataFrom, group: prev.group}
	j.mu.Unlock()
	return nil
}
