// Package wire is the native protocol of Sequitur: frames, requests, responses
// and the error table. docs/protocol.md is its public specification; this
// package is the reference implementation.
//
// The package is pure: it turns structs into bytes and back, and knows no
// socket, clock or goroutine. Batches of records stay []byte here; their
// format belongs to package record.
package wire
