package record

import (
	"bytes"
	"errors"
	"testing"
)

func fuzzSeeds(f *testing.F) {
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		f.Add([]byte(testBatch(f, codec)))
	}
	b := NewBuilder(0)
	b.AppendControl(1, ControlEpochStart, EpochStart{Epoch: 1}.AppendTo(nil))
	control, err := b.Build(nil, CodecNone, 0, 0, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(control))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, HeaderSize))
}

// fuzzLimits are small, so that a lie is cheap to tell from the truth.
func fuzzLimits() Limits {
	return Limits{MaxBatchBytes: 1 << 20, MaxRecordsBytes: 1 << 20, MaxRecords: 1 << 16}
}

// FuzzBatch parses and reads anything. What the reader accepts must survive being
// built again, and being rewritten.
func FuzzBatch(f *testing.F) {
	fuzzSeeds(f)
	d := NewDecompressor()
	f.Fuzz(func(t *testing.T, in []byte) {
		lim := fuzzLimits()
		batch, rest, err := Parse(in, lim)
		if err != nil {
			if !errors.Is(err, ErrShort) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("undeclared error %v", err)
			}
			return
		}
		if len(batch)+len(rest) != len(in) || int(batch.Length()) != len(batch) {
			t.Fatal("bytes lost")
		}
		_ = batch.Verify()
		var reader Reader
		if err := reader.Reset(batch, d, lim); err != nil {
			return
		}
		records, whole := readAll(&reader)
		if !whole {
			return
		}
		rebuild(t, batch, records)
		var w Rewriter
		odd := func(r *Record) bool { return r.OffsetDelta%2 == 1 }
		out, err := w.Rewrite(batch, lim, odd)
		if err != nil {
			t.Fatalf("rewrite what was read: %v", err)
		}
		got, _, err := Parse(out, Limits{MaxBatchBytes: 1 << 30, MaxRecordsBytes: 1 << 30, MaxRecords: 1 << 30})
		if err != nil || got.NextOffset() != batch.NextOffset() {
			t.Fatalf("rewritten batch: %v", err)
		}
	})
}

func readAll(reader *Reader) (records []Record, whole bool) {
	for {
		var rec Record
		ok, err := reader.Next(&rec)
		if err != nil || !ok {
			return records, err == nil
		}
		records = append(records, rec)
	}
}

// rebuild builds a batch of the records and expects to read the same back.
func rebuild(t *testing.T, batch Batch, records []Record) {
	b := NewBuilder(0)
	b.SetBaseTimestamp(batch.BaseTimestamp())
	b.SetLastOffsetDelta(batch.LastOffsetDelta())
	for _, r := range records {
		if err := b.AppendRaw(r.OffsetDelta, batch.BaseTimestamp()+r.TimestampDelta, r.Key, r.Value, r.Headers); err != nil {
			t.Fatal(err)
		}
	}
	again, err := b.Build(nil, CodecNone, batch.ProducerID(), batch.ProducerEpoch(), batch.BaseSequence())
	if err != nil {
		t.Fatal(err)
	}
	var reader Reader
	if err := reader.Reset(again, nil, Limits{MaxRecordsBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	back, whole := readAll(&reader)
	if !whole || len(back) != len(records) {
		t.Fatalf("%d records of %d came back", len(back), len(records))
	}
	for i := range back {
		x, y := &records[i], &back[i]
		if x.OffsetDelta != y.OffsetDelta || x.TimestampDelta != y.TimestampDelta ||
			!bytes.Equal(x.Key, y.Key) || (x.Key == nil) != (y.Key == nil) ||
			!bytes.Equal(x.Value, y.Value) || (x.Value == nil) != (y.Value == nil) || len(x.Headers) != len(y.Headers) {
			t.Fatalf("record %d changed", i)
		}
	}
}

// FuzzRecords feeds the reader and the decompressors with sections under an honest
// header, which is where a hostile producer with a correct CRC gets to.
func FuzzRecords(f *testing.F) {
	for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd} {
		b := testBatch(f, codec)
		f.Add(b.RecordsSection(), uint8(codec), b.Count(), b.RecordsSize())
	}
	f.Add([]byte{12, 0, 0, 0, 1, 1, 0}, uint8(0), uint32(1), uint32(7))
	d := NewDecompressor()
	f.Fuzz(func(t *testing.T, section []byte, codec uint8, count, size uint32) {
		b := plain(section, count, count)
		b = withSection(b, section, int(size))
		b[atAttributes] = codec & 7
		lim := fuzzLimits()
		batch, _, err := Parse(b, lim)
		if err != nil {
			return
		}
		out, err := d.Records(nil, batch, lim)
		if err != nil {
			return
		}
		if len(out) != int(size) {
			t.Fatalf("%d bytes, header says %d", len(out), size)
		}
		var reader Reader
		reader.ResetRecords(batch, out)
		if records, whole := readAll(&reader); whole && len(records) != int(count) {
			t.Fatalf("%d records, header says %d", len(records), count)
		}
	})
}

// FuzzControl decodes control keys and values.
func FuzzControl(f *testing.F) {
	f.Add(AppendControlKey(nil, ControlEpochStart), EpochStart{1, 2, 3}.AppendTo(nil))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if kind, err := ParseControlKey(key); err == nil && !bytes.Equal(AppendControlKey(nil, kind), key[:controlKeySize]) {
			t.Fatal("key changed")
		}
		if e, err := ParseEpochStart(value); err == nil && !bytes.Equal(e.AppendTo(nil), value[:epochStartSize]) {
			t.Fatal("value changed")
		}
	})
}
