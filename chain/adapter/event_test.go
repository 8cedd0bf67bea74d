package adapter

import (
	"reflect"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/gogoproto/proto"

	lease "fallow.network/api/chain/lease"
	registry "fallow.network/api/chain/provider"
)

// TestEvent: events are what the SDK would write, byte for byte.
func TestEvent(t *testing.T) {
	for _, m := range []proto.Message{
		&lease.EventDeposit{Tenant: "fal1a", Amount: 1 << 63},
		&lease.EventWithdraw{},
		&lease.EventLeaseOpened{Lease: 7, Tenant: "t", Provider: "p", Reserve: 3, Offer: "sha256:00"},
		&lease.EventLeaseSkipped{Tenant: "<&>\u2028", Provider: "\"\\\n\x00", Reason: "\xff"},
		&lease.EventLeaseState{Lease: 1, State: "CLOSED", Reason: "completed"},
		&lease.EventRedeemed{Lease: 1, Provider: "p", Amount: 2, MaturesUnixMs: -5},
		&lease.EventPaid{Provider: "p", Amount: 1},
		&registry.EventRegistered{Provider: "p"},
		&registry.EventUpdated{Provider: "p"},
		&registry.EventUnbonding{Provider: "p", Amount: 1, UnbondsUnixMs: 2},
		&registry.EventUnbonded{Provider: "p", Amount: 1},
		&lease.Account{Owner: "o", ClientKeys: []lease.ClientKey{{Address: "a"}}}, // not flat
		&registry.Node{Key: []byte{1}, Epoch: 2},
	} {
		want, err := sdk.TypedEventToEvent(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Event(m)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%T: got %v, want %v", m, got, want)
		}
	}
}
