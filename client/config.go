package client

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"fallow.network"
	"fallow.network/formats"
)

// Config says who the tenant is and how patient the client is. Times and
// counts that are zero mean what Default says.
type Config struct {
	// Home holds tenant.db and blobs/.
	Home    string
	ChainID string
	Tenant  fallow.Account
	// Hubs are multiaddrs with a peer id; each demand goes to two of them.
	Hubs []string
	// Where checks run when a job does not say.
	Check formats.CheckWhere

	// AnswerWait is how long offers are collected once there is one.
	AnswerWait time.Duration
	// DemandLife is how long a demand is open: the wait for a first offer.
	DemandLife time.Duration
	// Direct is how many providers are asked past the hubs.
	Direct int
	// MaxLeases bounds the providers of one job.
	MaxLeases int
	// GoneAfter is how long a cut connection may take to come back before its
	// tasks go elsewhere.
	GoneAfter time.Duration
	// DebtWait is how long a job that is done waits for a provider that went
	// away before it got its last voucher.
	DebtWait time.Duration
	// DialTimeout bounds the way to one peer.
	DialTimeout time.Duration
	// VoucherEvery and VoucherReceipts say when a voucher is signed: by age of
	// the oldest unpaid receipt, or by their number.
	VoucherEvery    time.Duration
	VoucherReceipts int
	// HoldPay is how long a task under check is held back from pay when its
	// provider waits for it.
	HoldPay time.Duration
	// Patience is how long the ledger may be away before a job stops.
	Patience time.Duration
	// Attempts bounds the tries of one task.
	Attempts int
	// StragglerMin is the least time after which a task is tried elsewhere.
	StragglerMin time.Duration
	// OwnSlots is how many checks run on this machine at once.
	OwnSlots int
	// Spread is how many times the cheapest price an offer may ask.
	Spread uint64
}

// Default is the config of a new home.
func Default() Config {
	return Config{
		Check:           formats.WhereBoth,
		AnswerWait:      250 * time.Millisecond,
		DemandLife:      5 * time.Second,
		Direct:          3,
		MaxLeases:       16,
		GoneAfter:       3 * time.Second,
		DebtWait:        20 * time.Second,
		DialTimeout:     10 * time.Second,
		VoucherEvery:    time.Second,
		VoucherReceipts: 32,
		HoldPay:         20 * time.Second,
		Patience:        2 * time.Minute,
		Attempts:        6,
		StragglerMin:    2 * time.Second,
		OwnSlots:        1,
		Spread:          8,
	}
}

func (c Config) withDefaults() Config {
	d := Default()
	set(&c.Check, d.Check)
	set(&c.AnswerWait, d.AnswerWait)
	set(&c.DemandLife, d.DemandLife)
	set(&c.Direct, d.Direct)
	set(&c.MaxLeases, d.MaxLeases)
	set(&c.GoneAfter, d.GoneAfter)
	set(&c.DebtWait, d.DebtWait)
	set(&c.DialTimeout, d.DialTimeout)
	set(&c.VoucherEvery, d.VoucherEvery)
	set(&c.VoucherReceipts, d.VoucherReceipts)
	set(&c.HoldPay, d.HoldPay)
	set(&c.Patience, d.Patience)
	set(&c.Attempts, d.Attempts)
	set(&c.StragglerMin, d.StragglerMin)
	set(&c.OwnSlots, d.OwnSlots)
	set(&c.Spread, d.Spread)
	return c
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Validate says what is missing or out of bounds.
func (c Config) Validate() error {
	switch {
	case c.Home == "":
		return errors.New("client: home is missing")
	case c.ChainID == "" || len(c.ChainID) > 64:
		return fmt.Errorf("client: chain id %.80q: want 1 to 64 characters", c.ChainID)
	case c.Tenant == "":
		return errors.New("client: tenant is missing: want an account address")
	case c.AnswerWait < 0 || c.DemandLife < c.AnswerWait || c.DemandLife > 10*time.Minute:
		return fmt.Errorf("client: answer wait %s and demand life %s: want 0 to 10m, in this order", c.AnswerWait, c.DemandLife)
	case c.MaxLeases < 1 || c.MaxLeases > 100:
		return fmt.Errorf("client: max leases %d: want 1 to 100", c.MaxLeases)
	case c.Attempts < 1 || c.Attempts > 100:
		return fmt.Errorf("client: attempts %d: want 1 to 100", c.Attempts)
	case c.Check != formats.WhereOwn && c.Check != formats.WhereMarket && c.Check != formats.WhereBoth:
		return fmt.Errorf("client: check %.20q: want own, market or both", string(c.Check))
	}
	return nil
}

func (c Config) db() string    { return filepath.Join(c.Home, "tenant.db") }
func (c Config) blobs() string { return filepath.Join(c.Home, "blobs") }
func (c Config) locks() string { return filepath.Join(c.Home, "locks") }
