// Package wire is the native protocol of Sequitur: frames, requests, responses,
// the configuration of topics and the error table. docs/protocol.md is its
// public specification, field by field; this package is the reference
// implementation, and testdata/vectors.json pins the bytes of every message.
//
// # Frames
//
// A connection is two streams of frames. All integers are little-endian.
//
//	 0      1      2      3      4      5      6      7
//	+------+------+------+------+------+------+------+------+
//	|          length u32       | kind | ver. |  flags u16  |
//	+------+------+------+------+------+------+------+------+
//	|     correlation id u32    |    metadata length u32    |
//	+------+------+------+------+------+------+------+------+
//	| metadata ...                                          |
//	+------+------+------+------+------+------+------+------+
//	| raw batches ... (produce requests, fetch responses)   |
//	+------+------+------+------+------+------+------+------+
//
// length counts the bytes after itself, so it is at least 12 and a frame takes
// length+4 bytes. Flag bit 0 marks a response; it repeats kind, version and
// correlation id of its request. Batches stand outside the metadata, so that
// they can go between socket and file without being copied; their format is
// that of package record.
//
// # Metadata
//
// Metadata is the fields of one message in order, with nothing between them:
//
//	u8 u16 u32 u64 i64   fixed size, little-endian
//	f64                  IEEE 754 bits as u64
//	bool                 u8, 0 or 1
//	uuid                 16 bytes
//	uvarint              base-128, low group first, at most 10 bytes
//	string, bytes        uvarint length, then the bytes
//	array                uvarint count, then the items
//	struct               uvarint size, then the fields (TopicConfig only)
//
// Within a version fields may only be appended at the end of a message, or of a
// struct. A decoder ignores bytes behind the last field which it knows, and
// reads a field before which the message ends as zero. Items of arrays do not
// grow within a version.
//
// Every response starts with its Status:
//
//	+-----------+----------------+------------------+----------------------+
//	| code u16  | message string | retry after u32  | body, only if code 0 |
//	+-----------+----------------+------------------+----------------------+
//
// # Limits
//
// Nothing is allocated on the word of a peer: frame and metadata lengths are
// checked against FrameLimits before they are read, strings and arrays against
// the bytes which are present. A decoded message takes at most 16 times the
// memory of its bytes.
//
// # Using it
//
// Encode with AppendFrame, send the batches behind it; read a header with
// ReadFrameHeader, then MetadataLength bytes, and give them to the Decode of the
// message which Kinds names. Encoding never allocates beyond the destination;
// decoding Produce and Fetch messages into a used receiver does not allocate
// either.
//
// The package is pure: it turns structs into bytes and back, and knows no
// socket, clock or goroutine.
package wire
