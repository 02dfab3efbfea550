package sequitur_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/sequitur-mq/sequitur/broker"
	sequitur "github.com/sequitur-mq/sequitur/clients/go"
)

// exampleClient starts a broker in a temporary directory and connects to it.
// Elsewhere the broker runs already: sequitur.Connect(ctx, "127.0.0.1:7650").
func exampleClient(ctx context.Context) (client *sequitur.Client, stop func()) {
	dir, err := os.MkdirTemp("", "sequitur-example-")
	must(err)
	cfg := broker.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.HTTP = dir, "127.0.0.1:0", ""
	cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	b, err := broker.Start(ctx, cfg)
	must(err)
	client, err = sequitur.Connect(ctx, b.Addr())
	must(err)
	return client, func() {
		must(client.Close())
		stopBroker(b)
		must(os.RemoveAll(dir))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// A record is sent, acknowledged once it is on disk, and read back.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, stop := exampleClient(ctx)
	defer stop()
	must(client.CreateTopic(ctx, "payments", sequitur.DefaultTopicConfig()))

	producer, err := client.NewProducer()
	must(err)
	defer producer.Close(ctx)
	ack, err := producer.Send(ctx, sequitur.Record{Topic: "payments", Key: []byte("alice"), Value: []byte("10 EUR")})
	must(err)
	fmt.Println("stored at offset", ack.Offset)

	consumer, err := client.NewConsumer(ctx, []string{"payments"}, sequitur.From(sequitur.Start()), sequitur.UntilEnd())
	must(err)
	defer consumer.Close()
	for rec, err := range consumer.Records(ctx) {
		must(err)
		fmt.Printf("%s: %s\n", rec.Key, rec.Value)
	}
	// Output:
	// stored at offset 0
	// alice: 10 EUR
}

// Records handed to a callback leave in batches that form by themselves; those
// of one key keep their order.
func ExampleProducer_SendAsync() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, stop := exampleClient(ctx)
	defer stop()
	must(client.CreateTopic(ctx, "steps", sequitur.DefaultTopicConfig()))

	producer, err := client.NewProducer(sequitur.WithCompression(sequitur.CodecZstd))
	must(err)
	for i := range 3 {
		err := producer.SendAsync(ctx, sequitur.Record{Topic: "steps", Key: []byte("job-7"), Value: fmt.Appendf(nil, "step %d", i)},
			func(ack sequitur.Ack, err error) {
				must(err)
				fmt.Println("acknowledged at offset", ack.Offset)
			})
		must(err)
	}
	must(producer.Close(ctx)) // sends what is left and waits for its acknowledgement
	// Output:
	// acknowledged at offset 0
	// acknowledged at offset 1
	// acknowledged at offset 2
}

// On a topic with a deduplication window a message id is stored once, whoever
// sends it again.
func ExampleProducer_Send_messageID() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, stop := exampleClient(ctx)
	defer stop()
	settings := sequitur.DefaultTopicConfig()
	settings.Partitions, settings.DedupWindow = 2, time.Hour
	must(client.CreateTopic(ctx, "orders", settings))

	for range 2 {
		producer, err := client.NewProducer()
		must(err)
		ack, err := producer.Send(ctx, sequitur.Record{Topic: "orders", Value: []byte("1 book"), MessageID: "order-1001"})
		must(err)
		fmt.Println("offset", ack.Offset, "duplicate", ack.Duplicate)
		must(producer.Close(ctx))
	}
	// Output:
	// offset 0 duplicate false
	// offset 0 duplicate true
}
