package broker

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequitur-mq/sequitur/record"
	"github.com/sequitur-mq/sequitur/wire"
)

// The benchmarks measure the broker and a client that does almost nothing, on
// one machine: sockets, journal and file system are real.

func benchBatch(b *testing.B, valueBytes, batchBytes int) (batch record.Batch, records int) {
	builder := record.NewBuilder(batchBytes)
	for builder.Len() == 0 || builder.Size() < batchBytes {
		builder.Append(1000, nil, make([]byte, valueBytes), nil)
		records++
	}
	batch, err := builder.Build(nil, record.CodecNone, 0, 0, 0)
	require.NoError(b, err)
	return batch, records
}

func benchBroker(b *testing.B) *Broker {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.HTTP = b.TempDir(), "127.0.0.1:0", ""
	cfg.Logger = testConfig(b).Logger
	return startConfig(b, cfg)
}

func benchConnect(b *testing.B, broker *Broker) *client {
	c := connect(b, broker)
	require.NoError(b, c.nc.SetDeadline(time.Time{}))
	return c
}

// BenchmarkProduceOne is one record of 128 bytes at a time, each waited for.
func BenchmarkProduceOne(b *testing.B) {
	for _, fsync := range []wire.Fsync{wire.FsyncAlways, wire.FsyncNever} {
		b.Run(fsync.String(), func(b *testing.B) {
			broker := benchBroker(b)
			c := benchConnect(b, broker)
			id := c.create("t", 1, func(tc *wire.TopicConfig) { tc.Fsync = fsync })
			batch, _ := benchBatch(b, 128, 1)
			frame := wire.AppendFrame(nil, wire.FrameHeader{Kind: wire.KindProduce, Version: 1}, produceRequestFor(id, 0, batch), len(batch))
			frame = append(frame, batch...)
			answer := make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.nc.Write(frame); err != nil {
					b.Fatal(err)
				}
				if _, err := c.nc.Read(answer); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(broker.Snapshot().Storage.Flush.P50.Microseconds()), "flush-us")
		})
	}
}

// BenchmarkProduce is batches of 64 KiB with 8 requests in flight.
func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{128, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			broker := benchBroker(b)
			c := benchConnect(b, broker)
			id := c.create("t", 1)
			batch, records := benchBatch(b, size, 64<<10)
			frame := wire.AppendFrame(nil, wire.FrameHeader{Kind: wire.KindProduce, Version: 1}, produceRequestFor(id, 0, batch), len(batch))
			frame = append(frame, batch...)
			before := processUsage()
			slots := make(chan struct{}, 8)
			done := make(chan error, 1)
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				header := make([]byte, wire.FrameHeaderSize)
				body := make([]byte, 512)
				for range b.N {
					h, err := wire.ReadFrameHeader(c.in, header, wire.FrameLimits{})
					if err == nil {
						_, err = io.ReadFull(c.in, body[:h.BodyLength()])
					}
					if err != nil {
						done <- err
						return
					}
					<-slots
				}
				done <- nil
			}()
			for range b.N {
				slots <- struct{}{}
				if _, err := c.nc.Write(frame); err != nil {
					b.Fatal(err)
				}
			}
			require.NoError(b, <-done)
			b.StopTimer()
			reportRecords(b, b.N*records, before)
		})
	}
}

// reportRecords reports records per second and CPU seconds of the whole process
// (broker and client) per million records.
func reportRecords(b *testing.B, records int, before usage) {
	after := processUsage()
	cpu := after.user + after.system - before.user - before.system
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(cpu.Seconds()/float64(records)*1e6, "cpu-s/Mrec")
}

// BenchmarkFetch reads stored batches of 128-byte records, 1 MiB at a time.
func BenchmarkFetch(b *testing.B) {
	for _, restarted := range []bool{false, true} {
		b.Run(fmt.Sprintf("restarted=%v", restarted), func(b *testing.B) {
			cfg := DefaultConfig()
			cfg.DataDir, cfg.Listen, cfg.HTTP = b.TempDir(), "127.0.0.1:0", ""
			cfg.Logger = testConfig(b).Logger
			broker := startConfig(b, cfg)
			c := benchConnect(b, broker)
			id := c.create("t", 1)
			batch, records := benchBatch(b, 128, 64<<10)
			for range 2000 {
				require.NoError(b, errOf(c.produce(id, 0, batch)))
			}
			if restarted {
				require.NoError(b, broker.Close())
				broker = startConfig(b, cfg)
				c = benchConnect(b, broker)
			}
			end := int64(2000 * records)
			offset, total, bytes := int64(0), 0, int64(0)
			before := processUsage()
			var resp wire.FetchResponse
			header, body := make([]byte, wire.FrameHeaderSize), make([]byte, 4<<20)
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				req := fetchRequestFor(id, 0, offset, 0)
				frame := wire.AppendFrame(nil, wire.FrameHeader{Kind: wire.KindFetch, Version: 1}, req, 0)
				_, err := c.nc.Write(frame)
				require.NoError(b, err)
				h, err := wire.ReadFrameHeader(c.in, header, wire.FrameLimits{})
				require.NoError(b, err)
				_, err = io.ReadFull(c.in, body[:h.BodyLength()])
				require.NoError(b, err)
				require.NoError(b, resp.Decode(body[:h.MetadataLength]))
				got := h.BatchesLength() / len(batch) * records
				total += got
				bytes += int64(h.BatchesLength())
				if offset += int64(got); offset >= end {
					offset = 0
				}
			}
			b.StopTimer()
			b.SetBytes(bytes / int64(b.N))
			reportRecords(b, total, before)
		})
	}
}

// BenchmarkEndToEnd is one record at a time from a producer to a consumer that
// waits for it.
func BenchmarkEndToEnd(b *testing.B) {
	broker := benchBroker(b)
	writer, reader := benchConnect(b, broker), benchConnect(b, broker)
	id := writer.create("t", 1)
	batch, _ := benchBatch(b, 128, 1)
	produce := wire.AppendFrame(nil, wire.FrameHeader{Kind: wire.KindProduce, Version: 1}, produceRequestFor(id, 0, batch), len(batch))
	produce = append(produce, batch...)
	answer := make([]byte, 4096)
	offset := int64(0)
	var frame []byte
	b.ReportAllocs()
	for b.Loop() {
		frame = wire.AppendFrame(frame[:0], wire.FrameHeader{Kind: wire.KindFetch, Version: 1}, fetchRequestFor(id, 0, offset, patience), 0)
		if _, err := reader.nc.Write(frame); err != nil {
			b.Fatal(err)
		}
		if _, err := writer.nc.Write(produce); err != nil {
			b.Fatal(err)
		}
		if _, err := reader.nc.Read(answer); err != nil {
			b.Fatal(err)
		}
		if _, err := writer.nc.Read(answer); err != nil {
			b.Fatal(err)
		}
		offset++
	}
}
