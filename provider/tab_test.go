package provider

import (
	"testing"

	"fallow.network"
)

// TestUnpaid: a reserve bounds what a voucher is worth, and what was redeemed is
// paid whether the reserve is known or not.
func TestUnpaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		charged, paid, redeemed, funded, want fallow.Credits
	}{
		{10, 0, 0, 20, 10},
		{10, 7, 0, 20, 3},
		{10, 12, 0, 20, 0},
		{10, 10, 0, 4, 6},
		{10, 10, 10, 0, 0}, // after a restart, before the ledger was asked
		{10, 10, 6, 0, 4},
	} {
		b := tab{charged: c.charged.Pico(), paid: c.paid.Pico(), redeemed: c.redeemed.Pico(), funded: c.funded}
		if got := b.unpaid(); got != c.want.Pico() {
			t.Errorf("%+v: %s unpaid", c, got)
		}
	}
}
