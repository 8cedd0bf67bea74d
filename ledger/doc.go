// Package ledger is a client of the chain without the chain's code: it builds,
// signs, batches and sends transactions, asks nodes, and follows events across
// their restarts, through gRPC and CometBFT's JSON-RPC with plain protobuf
// types.
//
// Its one invariant: a message that it was asked to send once executes at most
// once. The same signed bytes may be sent again at any time; new bytes are
// signed only after the old ones can no longer enter a block.
//
// It believes the nodes that it asks, as audit does not, and it decides
// nothing of the market.
package ledger
