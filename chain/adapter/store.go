// Package adapter is what stands between the pure rules and the Cosmos SDK: a
// module's store as a fallow.Store, effects as coins and events, refusals as
// registered errors, addresses as accounts.
//
// Its one invariant: it decides nothing. The same rules over the same entries
// give the same bytes on the ledger and in an audit.
//
// It knows no message of any module.
package adapter

import (
	"bytes"

	"cosmossdk.io/core/store"

	"fallow.network"
)

// Store gives a module's store to the rules. Reads and writes cost the gas
// that the SDK asks for them.
func Store(kv store.KVStore) fallow.Store { return rules{kv} }

type rules struct{ kv store.KVStore }

func (r rules) Get(key []byte) ([]byte, error) {
	v, err := r.kv.Get(key)
	if err != nil || v == nil {
		return nil, err
	}
	return Plain(v), nil
}

func (r rules) Set(key, value []byte) error { return r.kv.Set(key, Stored(value)) }

func (r rules) Delete(key []byte) error { return r.kv.Delete(key) }

func (r rules) Scan(start, end []byte, yield func(key, value []byte) bool) error {
	if len(start) == 0 {
		start = nil // the SDK takes no empty key
	}
	if end != nil && bytes.Compare(start, end) >= 0 {
		return nil
	}
	it, err := r.kv.Iterator(start, end)
	if err != nil {
		return err
	}
	// Its Error says that it is at the end; a store that fails panics.
	for ; it.Valid(); it.Next() {
		if !yield(it.Key(), Plain(it.Value())) {
			break
		}
	}
	return it.Close()
}

// Stored is how a value stands in the module's store. An ICS-23 proof can't
// show an empty value, so one that is empty, or begins with zero, has a zero
// byte before it; records begin with their version and stand as they are.
func Stored(value []byte) []byte {
	if len(value) == 0 || value[0] == 0 {
		return append([]byte{0}, value...)
	}
	return value
}

// Plain is the value that Stored stored.
func Plain(stored []byte) []byte {
	if len(stored) > 0 && stored[0] == 0 {
		return stored[1:]
	}
	return stored
}
