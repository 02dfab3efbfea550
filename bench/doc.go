// Package bench measures a broker from the outside: how many records per second it takes and gives, how long a record
// is under way, and what that costs in processor time and memory.
//
// # How the figures are made
//
//   - A [System] is one running server. Two exist: Sequitur through its Go client, and NATS JetStream through nats.go.
//     Every workload ([Produce], [Consume], [EndToEnd]) is written once against System, so that both sides send the same
//     bytes, count the same way and pay for the same histogram.
//   - Server and client are separate processes, so that their processor time can be told apart. A server that is not
//     given is started as a child process in a temporary directory and stopped at the end.
//   - Latencies go into HDR histograms ([Histogram]). With a rate, records are sent by an open-loop schedule ([Pacer])
//     and latency counts from the intended time of sending: a stalled server makes the following records late, it does
//     not make them disappear (no coordinated omission). Without a rate the loop is closed: latency then counts from the
//     call and mostly shows the queue in front of the server.
//   - Comparisons run interleaved (A B A B ...), and every reported figure is the median over the rounds.
//   - Every report names the durability that was bought (fsync mode, acks, JetStream's sync mode and how it is known),
//     the hardware and the file system. [MeasurePhysical] measures the limits of the same machine in the same run.
//
// Units: durations in JSON are microseconds ("...Us"), rates are per second, MB is 10^6 bytes.
package bench
