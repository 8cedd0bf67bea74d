package ledger

import (
	"fmt"

	authzv1 "cosmossdk.io/api/cosmos/authz/v1beta1"
	abciv1 "cosmossdk.io/api/cosmos/base/abci/v1beta1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"fallow.network"
)

// Tx is a transaction in a block, and what it cost.
type Tx struct {
	Hash   Hash
	Height fallow.Height
	Time   fallow.Time // of the block
	// Bytes is its size on the ledger.
	Bytes     int
	GasWanted uint64
	GasUsed   uint64
	Fee       Tokens
	// Responses answer the messages in their order.
	Responses []proto.Message
	// Events are ours of this transaction.
	Events []Event
	// Failed are earlier attempts that took no effect but paid their fee.
	Failed []Tx
	// Shared is how many calls were packed into this transaction: a bill
	// counts a hash once.
	Shared int
}

// settle reads what became of a flight.
func (f *flight) settle(p place) (Tx, error) {
	tx := Tx{
		Hash: f.hash, Height: p.height, Time: p.time, Bytes: len(f.raw), Fee: f.fee,
		GasWanted: uint64(p.result.GasWanted), GasUsed: uint64(p.result.GasUsed), Shared: 1,
	}
	if p.result.Code != 0 {
		return tx, &RefusalError{Codespace: p.result.Codespace, Code: p.result.Code, Log: p.result.Log, Hash: f.hash, Height: p.height}
	}
	var data abciv1.TxMsgData
	if err := proto.Unmarshal(p.result.Data, &data); err != nil {
		return tx, fmt.Errorf("transaction %s in block %d: read its result: %w", f.hash, p.height, err)
	}
	for _, a := range data.GetMsgResponses() {
		r, err := a.UnmarshalNew()
		if err != nil {
			return tx, fmt.Errorf("transaction %s in block %d: read its result: %w", f.hash, p.height, err)
		}
		tx.Responses = append(tx.Responses, r)
	}
	if f.wrapped {
		if err := tx.unwrap(f.messages); err != nil {
			return tx, fmt.Errorf("transaction %s in block %d: %w", f.hash, p.height, err)
		}
	}
	tx.Events = readEvents(p.result.Events, 0)
	return tx, nil
}

// unwrap takes the responses out of a MsgExec's.
func (tx *Tx) unwrap(messages []proto.Message) error {
	if len(tx.Responses) != 1 {
		return fmt.Errorf("%d responses to one MsgExec", len(tx.Responses))
	}
	exec, ok := tx.Responses[0].(*authzv1.MsgExecResponse)
	if !ok || len(exec.GetResults()) != len(messages) {
		return fmt.Errorf("%d messages of a MsgExec have %d responses", len(messages), len(exec.GetResults()))
	}
	tx.Responses = tx.Responses[:0]
	for i, b := range exec.GetResults() {
		r, err := responseTo(messages[i])
		if err != nil {
			return err
		}
		if err := proto.Unmarshal(b, r); err != nil {
			return fmt.Errorf("read the response to message %d: %w", i, err)
		}
		tx.Responses = append(tx.Responses, r)
	}
	return nil
}

// responseTo is an empty response to m, by the convention of its name.
func responseTo(m proto.Message) (proto.Message, error) {
	name := m.ProtoReflect().Descriptor().FullName() + "Response"
	t, err := protoregistry.GlobalTypes.FindMessageByName(name)
	if err != nil {
		return nil, fmt.Errorf("response %s: %w", name, err)
	}
	return t.New().Interface(), nil
}
