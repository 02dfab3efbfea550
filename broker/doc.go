// Package broker is the server: it serves the native protocol on top of the log.
//
// # Reading the source
//
// broker.go starts and stops everything, in order. server.go accepts
// connections; conn.go reads requests, conn_writer.go writes answers. Every
// request kind is a file of its own: hello.go, metadata.go, produce.go, fetch.go
// (with fetch_writer.go), list_offsets.go, create_topics.go, describe_topics.go,
// alter_topic.go, delete_topics.go, init_producer.go, describe_broker.go.
// topics.go finds partitions; errors.go maps errors to the protocol's codes;
// config.go holds every setting with its default.
//
// # Goroutines
//
// One accepts. Each connection has one that reads and handles requests and one
// that writes; the server waits for them. The log and the metadata driver have
// their own. Requests that wait for the disk, for records or for metadata hold
// no goroutine: they are completed by whoever brings what they wait for.
//
//	produce   reader -> journal writer -> (socket, or writer if others are in flight)
//	fetch     reader -> [parked -> journal writer ->] writer -> socket
//
// # Memory
//
// What clients can make the broker hold is bounded (memory.go): request frames
// by a budget of the broker and a share of it per connection, waiting fetches by
// a budget of their own, answers by what a connection may leave unread. A
// connection over its share is not read from any more, so that its peer feels
// TCP's window; when the broker's budget is used up for too long, requests are
// answered OVERLOADED. A client that does not read its answers keeps nothing but
// its own connection from going on, and is disconnected in the end.
package broker
