package hub_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	"fallow.network/hub"
	"fallow.network/market"
	"fallow.network/p2p"
	"fallow.network/wire"
)

func TestDemandsThatAreRefused(t *testing.T) {
	n, other := newTenant(t, "tenant"), newTenant(t, "other")
	e := &escrow{}
	e.set(n.account, 1_000_000)
	r := start(t, hub.Default(), e)
	p := newProvider(t, "p")
	p.hold(t, r)
	h := host(t, p2p.RoleTenant)
	good := n.demand(t, 5*time.Second, nil)
	forged := n.demand(t, 5*time.Second, nil)
	forged.Signature = other.demand(t, 5*time.Second, nil).Signature
	elsewhere, err := wire.SignDemand(n.secret, "another-chain", good.Message)
	if err != nil {
		t.Fatal(err)
	}
	unknown := append(append([]byte{}, good.Message...), 0xf8, 0x07, 1) // field 127
	signedUnknown, err := wire.SignDemand(n.secret, chainID, unknown)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		s        market.Signed
		protocol string
		code     connect.Code
		reason   fallow.Reason
		says     string
	}{
		"empty":           {market.Signed{}, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonMalformed, ""},
		"garbage":         {market.Signed{Message: []byte("hello"), Signature: make([]byte, 64)}, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonMalformed, ""},
		"unknown field":   {signedUnknown, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonMalformed, ""},
		"huge":            {market.Signed{Message: make([]byte, 1<<20), Signature: make([]byte, 64)}, fallow.Protocol, connect.CodeResourceExhausted, "", ""},
		"forged":          {forged, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonSignature, ""},
		"another chain":   {elsewhere, fallow.Protocol, connect.CodeInvalidArgument, fallow.ReasonSignature, ""},
		"expired":         {n.demand(t, -time.Second, nil), fallow.Protocol, connect.CodeFailedPrecondition, fallow.ReasonExpired, "clock"},
		"older protocol":  {good, "fallow/0", connect.CodeFailedPrecondition, fallow.ReasonVersion, "upgrade your fallow"},
		"newer protocol":  {good, "fallow/99", connect.CodeFailedPrecondition, fallow.ReasonVersion, "the hub is older"},
		"foreign":         {good, "other", connect.CodeFailedPrecondition, fallow.ReasonVersion, "upgrade the older"},
		"without version": {good, "", connect.CodeFailedPrecondition, fallow.ReasonVersion, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := n.askAs(t, h, r, tc.s, tc.protocol)
			if connect.CodeOf(err) != tc.code || hub.ReasonOf(err) != tc.reason || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v (%s), want %s %s %q", err, connect.CodeOf(err), tc.code, tc.reason, tc.says)
			}
		})
	}
	if p.heard.Load() != 0 {
		t.Errorf("%d refused demands reached a provider", p.heard.Load())
	}
	if got, err := n.ask(t, h, r, good); err != nil || len(got.answers) != 1 {
		t.Errorf("a good demand: %+v %v", got, err)
	}
	// It was answered: no second round of answers for the same bytes.
	if _, err := n.ask(t, h, r, good); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("the same demand again: %v", err)
	}
	if p.heard.Load() != 1 {
		t.Errorf("the provider heard %d demands", p.heard.Load())
	}
}

func TestOneDemandAskedTwiceIsPutOnce(t *testing.T) {
	n := newTenant(t, "tenant")
	e := &escrow{}
	e.set(n.account, 1_000_000)
	r := start(t, hub.Default(), e)
	p, silent := newProvider(t, "p"), newProvider(t, "silent")
	silent.silent = true
	p.hold(t, r)
	silent.hold(t, r)
	s := n.demand(t, 1500*time.Millisecond, nil)
	begun := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		h := host(t, p2p.RoleTenant)
		wg.Go(func() {
			got, err := n.ask(t, h, r, s)
			if err != nil || got.number != 2 || len(got.answers) != 1 {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
	wg.Wait()
	if d := time.Since(begun); d < time.Second || d > 5*time.Second {
		t.Errorf("a silent provider was waited for %v", d)
	}
	if p.heard.Load() != 1 || silent.heard.Load() != 1 {
		t.Errorf("heard %d and %d times", p.heard.Load(), silent.heard.Load())
	}
}

func TestFilters(t *testing.T) {
	n := newTenant(t, "tenant")
	e := &escrow{}
	e.set(n.account, 1_000_000)
	r := start(t, hub.Default(), e)
	p := newProvider(t, "p")
	p.hold(t, r)
	h := host(t, p2p.RoleTenant)
	for name, tc := range map[string]struct {
		change func(*market.Demand)
		asked  int
	}{
		"as it is":      {nil, 1},
		"class":         {func(d *market.Demand) { d.Class = "oci" }, 0},
		"profile":       {func(d *market.Demand) { d.Profile = "other" }, 0},
		"too large":     {func(d *market.Demand) { d.Slot.MilliCPU = 5000 }, 0},
		"region":        {func(d *market.Demand) { d.Placement.Regions = []string{"us", "eu"} }, 1},
		"other region":  {func(d *market.Demand) { d.Placement.Regions = []string{"us"} }, 0},
		"attribute":     {func(d *market.Demand) { d.Placement.Attributes = []market.Attribute{{Key: "arch", Value: "arm64"}} }, 0},
		"named":         {func(d *market.Demand) { d.Placement.Providers = []fallow.Account{p.account} }, 1},
		"others named":  {func(d *market.Demand) { d.Placement.Providers = []fallow.Account{n.account} }, 0},
		"excluded":      {func(d *market.Demand) { d.Placement.Excluded = []fallow.Account{p.account} }, 0},
		"gpu":           {func(d *market.Demand) { d.Slot.GPUs = 1 }, 0},
		"all that fits": {func(d *market.Demand) { d.Slot = market.Resources{MilliCPU: 4000, Memory: 1 << 30} }, 1},
	} {
		got, err := n.ask(t, h, r, n.demand(t, 5*time.Second, tc.change))
		if err != nil || got.number != tc.asked || len(got.answers) != tc.asked {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

func TestRates(t *testing.T) {
	limits := hub.Default()
	limits.TenantRate, limits.TenantBurst = 0.001, 6
	limits.UnfundedRate, limits.UnfundedBurst = 0.001, 2
	limits.PeerRate, limits.PeerBurst = 0.001, 12
	rich, poor, poorer, spent := newTenant(t, "rich"), newTenant(t, "poor"), newTenant(t, "poorer"), newTenant(t, "spent")
	e := &escrow{}
	e.set(rich.account, limits.Funded)
	e.set(spent.account, limits.Funded-1)
	r := start(t, limits, e)
	count := func(h *p2p.Host, n *tenant, times int, change func(*market.Demand)) (ok int, last error) {
		for range times {
			if _, err := n.ask(t, h, r, n.demand(t, 5*time.Second, change)); err == nil {
				ok++
			} else {
				last = err
			}
		}
		return ok, last
	}
	if ok, err := count(host(t, p2p.RoleTenant), rich, 8, nil); ok != 6 || hub.ReasonOf(err) != fallow.ReasonRateLimited {
		t.Errorf("a funded tenant got %d: %v", ok, err)
	}
	// Those without funds share one small rate, however many they are.
	one, err := count(host(t, p2p.RoleTenant), poor, 1, nil)
	if err != nil {
		t.Error(err)
	}
	two, _ := count(host(t, p2p.RoleTenant), spent, 1, nil)
	three, err := count(host(t, p2p.RoleTenant), poorer, 3, nil)
	if one+two+three != 2 || !strings.Contains(fmt.Sprint(err), "fallow deposit") {
		t.Errorf("unfunded tenants got %d %d %d: %v", one, two, three, err)
	}
	// Who signs for a rich tenant with a key of its own is not funded by that.
	if ok, _ := count(host(t, p2p.RoleTenant), poor, 2, func(d *market.Demand) { d.Tenant = rich.account }); ok != 0 {
		t.Errorf("a stranger asked for a rich tenant %d times", ok)
	}
	// One peer, whatever it asks.
	h := host(t, p2p.RoleTenant)
	limited := 0
	for range 15 {
		if _, err := status(t, h, r); hub.ReasonOf(err) == fallow.ReasonRateLimited {
			limited++
		}
	}
	if limited != 3 {
		t.Errorf("%d of 15 requests of a peer were refused", limited)
	}
	if e.calls > 4 {
		t.Errorf("the ledger was asked %d times for 4 accounts", e.calls)
	}
}

func TestLedgerAway(t *testing.T) {
	limits := hub.Default()
	limits.UnfundedBurst, limits.UnfundedRate, limits.FundsAgeMS = 0, 0, 0
	known, unknown := newTenant(t, "known"), newTenant(t, "unknown")
	e := &escrow{}
	e.set(known.account, 1_000_000)
	r := start(t, limits, e)
	h := host(t, p2p.RoleTenant)
	if _, err := known.ask(t, h, r, known.demand(t, 5*time.Second, nil)); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	e.away = true
	e.mu.Unlock()
	if _, err := known.ask(t, h, r, known.demand(t, 5*time.Second, nil)); err != nil {
		t.Errorf("a tenant known to be funded: %v", err)
	}
	if _, err := unknown.ask(t, h, r, unknown.demand(t, 5*time.Second, nil)); hub.ReasonOf(err) != fallow.ReasonRateLimited {
		t.Errorf("an unknown tenant: %v", err)
	}
}
