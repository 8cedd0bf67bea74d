package lease

import (
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"fallow.network"
	"fallow.network/settle"
)

// TestEvents tells of every effect that the rules return: one that nothing
// tells of would stop its message.
func TestEvents(t *testing.T) {
	effects := []settle.Effect{
		settle.Deposited{Tenant: "a", Amount: 1},
		settle.Withdrawn{Tenant: "a", Amount: 2},
		settle.Opened{Lease: 1, Offer: fallow.Sum(nil)},
		settle.Skipped{Reason: fallow.ReasonFunds},
		settle.Changed{Lease: 1, State: settle.Closed, Reason: fallow.ReasonCompleted},
		settle.Redeemed{Lease: 1, Matures: 5},
		settle.Paid{Provider: "p", Amount: 3},
	}
	seen := map[string]bool{}
	for _, e := range effects {
		m := ToEvent(e)
		if m == nil {
			t.Errorf("nothing tells of %T", e)
			continue
		}
		told, err := sdk.TypedEventToEvent(m)
		if err != nil || seen[told.Type] {
			t.Errorf("%T is told as %s: %v", e, told.Type, err)
		}
		seen[told.Type] = true
	}
}

func TestPico(t *testing.T) {
	for want, p := range map[string]fallow.Pico{
		"0": {}, "1500000": {Lo: 1_500_000}, "340282366920938463463374607431768211455": {Hi: 1<<64 - 1, Lo: 1<<64 - 1},
	} {
		if got := pico(p); got != want {
			t.Errorf("pico = %s, want %s", got, want)
		}
	}
}

func TestParams(t *testing.T) {
	p := settle.Params{
		CheckWindowMS: 1, GraceMS: 2, StartWindowMS: 3, MaxOfferBlocks: 4, MaxClaimWindowMS: 5,
		MaxServices: 6, MaxQueuePerBlock: 7, MaxEntries: 8, MaxHorizonMS: 9, DepositSeconds: 10,
	}
	if got := fromParams(ToParams(p)); got != p {
		t.Errorf("there and back: %+v", got)
	}
}
