// Package sequitur is the Go client of the Sequitur message broker.
//
//	client, err := sequitur.Connect(ctx, "127.0.0.1:7650")
//	defer client.Close()
//
//	producer, err := client.NewProducer()
//	ack, err := producer.Send(ctx, sequitur.Record{Topic: "orders", Key: key, Value: value})
//
//	consumer, err := client.NewConsumer(ctx, []string{"orders"}, sequitur.From(sequitur.Start()))
//	for rec, err := range consumer.Records(ctx) { ... }
//
// A [Client] keeps two connections to each broker that it needs: one for produce
// requests, one for everything else, so that neither a long poll nor a big fetch
// delays a produce. It reconnects by itself, the first time at once, then with
// exponential back-off and jitter, behind a circuit breaker per broker.
//
// # Sending
//
// [Producer.Send] waits for the acknowledgement of one record, [Producer.SendAsync]
// hands it to a callback. Records of one partition are appended in the order in which
// the calls returned, also through retries and reconnects: batches carry the
// producer's id and sequence numbers, the broker refuses gaps and recognises repeats.
//
// Batches form by themselves: with nothing in flight to a partition's broker a record
// leaves at once; while a request is in flight the next batch fills.
//
// # Reading
//
// A [Consumer] fetches ahead in the background into bounded memory. Keys and values
// that it hands out alias memory that is never written again: they may be kept, and
// keep the whole fetch (up to a few MiB) alive; copy what is kept for long.
//
// # Clusters
//
// Any broker serves to connect; the others are learnt from it. When a leader changes,
// refuses, breaks off or falls silent, the partition's new leader is looked up at the
// other brokers, by one question for all that wait, and what is not acknowledged is sent
// to it in the old order under the old numbers, within the delivery timeout. Consumers
// go on there at the next record. Neither shows but in the [Hooks]. Consumers can read
// from a replica nearby: see [ReadNearest].
//
// # Errors
//
// Every error that concerns the broker is an [*Error]: it names what was attempted,
// says whether a later attempt may succeed and whether the failed one may have taken
// effect all the same, and matches the Err... variables with errors.Is. Errors of a
// context come back wrapped, so that errors.Is(err, context.DeadlineExceeded) holds.
package sequitur
