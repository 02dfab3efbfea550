package sequitur_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"time"

	sequitur "github.com/sequitur-mq/sequitur/clients/go"

	"github.com/sequitur-mq/sequitur/broker"
)

// exampleBroker starts a broker with a topic "orders" of four partitions, so that the
// examples run by themselves. Programs connect to the address of theirs.
func exampleBroker() (client *sequitur.Client, stop func()) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "sequitur-example-")
	if err != nil {
		log.Fatal(err)
	}
	cfg := broker.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.HTTP = dir, "127.0.0.1:0", ""
	cfg.Logger = slog.New(slog.DiscardHandler)
	b, err := broker.Start(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	client, err = sequitur.Connect(ctx, b.Addr())
	if err != nil {
		log.Fatal(err)
	}
	topic := sequitur.DefaultTopicConfig()
	topic.Partitions = 4
	topic.DedupWindow = time.Hour
	if err := client.CreateTopic(ctx, "orders", topic); err != nil {
		log.Fatal(err)
	}
	return client, func() {
		client.Close()
		stopBroker(b)
		os.RemoveAll(dir)
	}
}

// A record is sent, acknowledged once it is fsynced, and read back.
func Example() {
	client, stop := exampleBroker() // in a program: sequitur.Connect(ctx, "127.0.0.1:7650")
	defer stop()
	ctx := context.Background()

	producer, err := client.NewProducer()
	if err != nil {
		log.Fatal(err)
	}
	ack, err := producer.Send(ctx, sequitur.Record{Topic: "orders", Key: []byte("customer-7"), Value: []byte("3 books")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s/%d offset %d\n", ack.Topic, ack.Partition, ack.Offset)
	if err := producer.Close(ctx); err != nil {
		log.Fatal(err)
	}

	consumer, err := client.NewConsumer(ctx, []string{"orders"}, sequitur.From(sequitur.Start()), sequitur.UntilEnd())
	if err != nil {
		log.Fatal(err)
	}
	defer consumer.Close()
	for rec, err := range consumer.Records(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", rec.Key, rec.Value)
	}
	// Output:
	// orders/2 offset 0
	// customer-7: 3 books
}

// Many records are sent without waiting for each. Records of a key keep their order.
func ExampleProducer_SendAsync() {
	client, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	producer, err := client.NewProducer(sequitur.WithCompression(sequitur.CodecZstd))
	if err != nil {
		log.Fatal(err)
	}
	last := make(map[string]int64) // callbacks run one after the other
	for i := range 1000 {
		key := fmt.Sprintf("customer-%d", i%3)
		record := sequitur.Record{Topic: "orders", Key: []byte(key), Value: fmt.Append(nil, i)}
		err := producer.SendAsync(ctx, record, func(ack sequitur.Ack, err error) {
			if err != nil {
				log.Fatal(err)
			}
			if ack.Offset < last[key] {
				log.Fatalf("%s is out of order", key)
			}
			last[key] = ack.Offset
		})
		if err != nil {
			log.Fatal(err) // not queued
		}
	}
	if err := producer.Close(ctx); err != nil { // waits for the acknowledgements
		log.Fatal(err)
	}
	fmt.Println(len(last), "customers")
	// Output: 3 customers
}

// A message id makes a send safe to repeat within the topic's deduplication window,
// also by another process.
func ExampleProducer_Send_messageID() {
	client, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	producer, err := client.NewProducer()
	if err != nil {
		log.Fatal(err)
	}
	defer producer.Close(ctx)
	for range 2 {
		ack, err := producer.Send(ctx, sequitur.Record{Topic: "orders", MessageID: "order-4711", Value: []byte("3 books")})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("offset", ack.Offset, "duplicate", ack.Duplicate)
	}
	// Output:
	// offset 0 duplicate false
	// offset 0 duplicate true
}

// Errors say what happened, whether another attempt may help, and whether the failed
// one may have taken effect.
func ExampleError() {
	client, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	producer, err := client.NewProducer()
	if err != nil {
		log.Fatal(err)
	}
	defer producer.Close(ctx)
	_, err = producer.Send(ctx, sequitur.Record{Topic: "odrers"})
	var e *sequitur.Error
	if errors.Is(err, sequitur.ErrUnknownTopic) && errors.As(err, &e) {
		fmt.Println(e)
		fmt.Println("retriable", e.Retriable, "maybe done", e.MaybeDone)
	}
	// Output:
	// send to odrers: UNKNOWN_TOPIC: the topic does not exist; create it or check its name
	// retriable false maybe done false
}

// Poll hands out many records at a time, and positions can be kept by the application.
func ExampleConsumer_Poll() {
	client, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	producer, err := client.NewProducer()
	if err != nil {
		log.Fatal(err)
	}
	for i := range 100 {
		if err := producer.SendAsync(ctx, sequitur.Record{Topic: "orders", Key: fmt.Append(nil, i)}, nil); err != nil {
			log.Fatal(err)
		}
	}
	if err := producer.Close(ctx); err != nil {
		log.Fatal(err)
	}
	consumer, err := client.NewConsumer(ctx, []string{"orders"})
	if err != nil {
		log.Fatal(err)
	}
	defer consumer.Close()
	buf := make([]sequitur.Record, 64)
	read := 0
	for read < 100 {
		n, err := consumer.Poll(ctx, buf)
		if err != nil {
			log.Fatal(err)
		}
		read += n
	}
	total := int64(0)
	for _, p := range consumer.Positions() {
		total += p.Offset
	}
	fmt.Println("read", read, "positions add up to", total)
	// Output: read 100 positions add up to 100
}

// A consumer goes back in time.
func ExampleConsumer_Seek() {
	client, stop := exampleBroker()
	defer stop()
	ctx := context.Background()
	producer, err := client.NewProducer()
	if err != nil {
		log.Fatal(err)
	}
	ack, err := producer.Send(ctx, sequitur.Record{Topic: "orders", Key: []byte("customer-7"), Value: []byte("3 books")})
	if err != nil {
		log.Fatal(err)
	}
	if err := producer.Close(ctx); err != nil {
		log.Fatal(err)
	}
	consumer, err := client.NewConsumer(ctx, []string{"orders"}, sequitur.From(sequitur.End()))
	if err != nil {
		log.Fatal(err)
	}
	defer consumer.Close()
	if err := consumer.Seek(ctx, "orders", ack.Partition, sequitur.At(ack.AppendTime)); err != nil {
		log.Fatal(err)
	}
	for rec, err := range consumer.Records(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", rec.Value)
		break // the next Records goes on behind it
	}
	// Output: 3 books
}
