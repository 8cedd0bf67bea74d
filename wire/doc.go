// Package wire is the one converter between the protobuf messages of
// api/market, as bytes, and the pure types of market and receipt; it signs,
// verifies, seals and opens them.
//
// Its one invariant: what it decodes has no unknown field at any depth and has
// passed the pure type's Check, and what is verified or named by a digest are
// the bytes as they were received, never a second encoding.
//
// It decides nothing about a message's worth, keeps no keys and opens no
// connection.
package wire
