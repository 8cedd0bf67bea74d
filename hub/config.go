package hub

import (
	"errors"
	"fmt"
	"math"
	"time"

	"fallow.network"
)

const (
	maxMessage   = 256 << 10 // of one message in, bytes
	maxSealed    = 130 << 10 // of one sealed answer
	maxLife      = time.Minute
	sendTime     = 10 * time.Second // that a tenant may take beyond its demand's expiry
	firstWord    = 10 * time.Second // that a stream has to say who it is
	lastWords    = time.Second      // that a stream has once it must end
	staleFunds   = 10 * time.Minute
	fundsTimeout = 2 * time.Second
	lookups      = 16 // questions to the ledger about strangers at once
	slowStrikes  = 32 // demands in a row that found a provider's queue full
	strayReplies = 256
	openRequests = 64 // of one peer at once
)

// Limits bound what a hub takes on. Rates are in requests a second.
type Limits struct {
	// Providers on the board, Questions and seconds that they live at most.
	Providers int `toml:"providers"`
	Questions int `toml:"questions"`
	// Fanout is how many providers one demand is put to; a random choice when
	// more could serve it.
	Fanout int `toml:"fanout"`
	// Queue is how many demands may wait for one provider.
	Queue int `toml:"queue"`
	// AnswerBytes bounds sealed answers held for all open questions.
	AnswerBytes int64 `toml:"answer_bytes"`
	// Listing is how many providers one listing gives at most.
	Listing int `toml:"listing"`
	// Each peer, by the key that it proved.
	PeerRate  float64 `toml:"peer_rate"`
	PeerBurst int     `toml:"peer_burst"`
	// Each tenant whose free escrow is Funded or more.
	Funded      fallow.Credits `toml:"funded_ucredit"`
	TenantRate  float64        `toml:"tenant_rate"`
	TenantBurst int            `toml:"tenant_burst"`
	// All other tenants together: accounts cost nothing.
	UnfundedRate  float64 `toml:"unfunded_rate"`
	UnfundedBurst int     `toml:"unfunded_burst"`
	// LookupRate is how often the ledger is asked, each second and at once,
	// about tenants and nodes of which it has not said yes before.
	LookupRate  float64 `toml:"lookup_rate"`
	LookupBurst int     `toml:"lookup_burst"`
	// FundsAgeMS is how long a balance is believed, in milliseconds.
	FundsAgeMS int64 `toml:"funds_age_ms"`
	// Remember is how many peers and tenants have a rate of their own.
	Remember int `toml:"remember"`
}

// Default is a hub for some thousand providers on a small machine.
func Default() Limits {
	return Limits{
		Providers: 8192, Questions: 4096, Fanout: 512, Queue: 64, AnswerBytes: 128 << 20, Listing: 256,
		PeerRate: 10, PeerBurst: 50,
		Funded: 10_000, TenantRate: 5, TenantBurst: 30,
		UnfundedRate: 1, UnfundedBurst: 5,
		LookupRate: 200, LookupBurst: 400,
		FundsAgeMS: 5000, Remember: 65536,
	}
}

// Validate says what is wrong and what would be right.
func (l Limits) Validate() error {
	for _, v := range []struct {
		name       string
		value      int64
		least, max int64
	}{
		{"providers", int64(l.Providers), 1, 1 << 20},
		{"questions", int64(l.Questions), 1, 1 << 16},
		{"fanout", int64(l.Fanout), 1, 1 << 14},
		{"queue", int64(l.Queue), 2, 1 << 12},
		{"answer_bytes", l.AnswerBytes, maxSealed, 1 << 36},
		{"listing", int64(l.Listing), 1, 1 << 12},
		{"peer_burst", int64(l.PeerBurst), 1, 1 << 20},
		{"tenant_burst", int64(l.TenantBurst), 1, 1 << 20},
		{"unfunded_burst", int64(l.UnfundedBurst), 0, 1 << 20},
		{"lookup_burst", int64(l.LookupBurst), 1, 1 << 20},
		{"funds_age_ms", l.FundsAgeMS, 0, 3600_000},
		{"remember", int64(l.Remember), 1, 1 << 22},
	} {
		if v.value < v.least || v.value > v.max {
			return fmt.Errorf("%s = %d: want %d to %d", v.name, v.value, v.least, v.max)
		}
	}
	for _, r := range []float64{l.PeerRate, l.TenantRate, l.LookupRate} {
		if math.IsNaN(r) || r <= 0 {
			return errors.New("peer_rate, tenant_rate and lookup_rate: want requests a second above 0")
		}
	}
	if math.IsNaN(l.UnfundedRate) || l.UnfundedRate < 0 {
		return errors.New("unfunded_rate: want requests a second, or 0 for none")
	}
	return nil
}
