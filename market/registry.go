package market

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"fallow.network"
)

// Tokens is an amount in micro-FAL (ufal), as bonds are.
type Tokens uint64

// RegistryParams are the provider module's parameters.
type RegistryParams struct {
	MinBond       Tokens
	UnbondingMS   uint64           // from unbond to payout; longer than any check window
	BondPrice     uint64           // pico-credits that one ufal stands for, until there is an oracle
	Allowed       []fallow.Account // who may register; anyone when empty
	MaxAttributes uint32
	MaxNodes      uint32
}

// DefaultRegistryParams are sane for a public network.
func DefaultRegistryParams() RegistryParams {
	return RegistryParams{
		MinBond:       100_000_000, // 100 FAL
		UnbondingMS:   21 * 24 * 3600 * 1000,
		BondPrice:     fallow.PicoPerMicro, // 1 FAL stands for 1 credit
		MaxAttributes: 32,
		MaxNodes:      256,
	}
}

// Check says what is out of bounds in p.
func (p RegistryParams) Check() error {
	switch {
	case p.MinBond == 0:
		return fmt.Errorf("%w: min_bond is zero", ErrParams)
	case p.UnbondingMS == 0 || p.UnbondingMS > MaxWindowMS:
		return fmt.Errorf("%w: unbonding_ms %d: want 1 to %d", ErrParams, p.UnbondingMS, uint64(MaxWindowMS))
	case p.BondPrice == 0 || p.BondPrice > 1_000_000*fallow.PicoPerMicro:
		return fmt.Errorf("%w: bond_price %d: want 1 to a million credits for a FAL", ErrParams, p.BondPrice)
	case p.MaxAttributes > MaxAttributes:
		return fmt.Errorf("%w: max_attributes %d is above %d", ErrParams, p.MaxAttributes, MaxAttributes)
	case p.MaxNodes == 0 || p.MaxNodes > 1024:
		return fmt.Errorf("%w: max_nodes %d: want 1 to 1024", ErrParams, p.MaxNodes)
	case len(p.Allowed) > 4096:
		return fmt.Errorf("%w: %d accounts are allowed, above 4096", ErrParams, len(p.Allowed))
	}
	for _, a := range p.Allowed {
		if err := CheckAccount("allowed", a); err != nil {
			return fmt.Errorf("%w: %w", ErrParams, err)
		}
	}
	return nil
}

// Node is one machine of a provider. Offers that it signs name its epoch.
type Node struct {
	Key   fallow.Key
	Epoch uint64
	Addrs []string
}

// NodeListing asks for a node; Rotate gives it a new epoch, which ends the
// offers signed under the old one at once.
type NodeListing struct {
	Key    fallow.Key
	Addrs  []string
	Rotate bool
}

// Listing is what a provider says of itself.
type Listing struct {
	Nodes      []NodeListing
	Attributes []Attribute
	Region     string
	Hubs       []string
}

// Provider is a registered provider.
type Provider struct {
	Owner      fallow.Account
	Bond       Tokens // free of unbonding
	Nodes      []Node // in the order of the listing
	Attributes []Attribute
	Region     string
	Hubs       []string
	Paused     bool
	Unbonding  Tokens      // on its way out
	Unbonds    fallow.Time // when it leaves; zero when nothing does
	Registered fallow.Height
	LastEpoch  uint64 // epochs given so far, so that none is given twice
}

// Registry is the provider module's state machine. Every method that writes
// happens as a whole or, when it returns an error, not at all.
type Registry struct {
	Store fallow.Store
	// Exposure is a provider's open reserves and unmatured payouts; nil
	// where there are no leases.
	Exposure func(at Block, provider fallow.Account) (fallow.Credits, error)
}

const recordVersion = 1

// Keys: params at 0; a provider at 1 ‖ owner; the owner of a node key at
// 2 ‖ key; a bond on its way out at 3 ‖ time (8 bytes, big-endian) ‖ owner.
func paramsKey() []byte                       { return []byte{0} }
func providerKey(owner fallow.Account) []byte { return append([]byte{1}, owner...) }
func nodeKey(k fallow.Key) []byte             { return append([]byte{2}, k[:]...) }
func unbondKey(t fallow.Time, owner fallow.Account) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{3}, uint64(t)), owner...)
}

// Params are the parameters in force.
func (r Registry) Params() (RegistryParams, error) {
	b, err := r.Store.Get(paramsKey())
	if err != nil || b == nil {
		return DefaultRegistryParams(), err
	}
	return decodeRegistryParams(b)
}

// SetParams puts p in force.
func (r Registry) SetParams(p RegistryParams) error {
	if err := p.Check(); err != nil {
		return err
	}
	return r.Store.Set(paramsKey(), encodeRegistryParams(p))
}

// Provider looks up a provider.
func (r Registry) Provider(owner fallow.Account) (Provider, bool, error) {
	b, err := r.Store.Get(providerKey(owner))
	if err != nil || b == nil {
		return Provider{}, false, err
	}
	p, err := decodeProvider(b)
	if err != nil {
		return Provider{}, false, fmt.Errorf("provider %s: %w", owner, err)
	}
	return p, true, nil
}

// Providers visits providers in ascending order of their accounts, from the
// one after the given account on.
func (r Registry) Providers(after fallow.Account, yield func(Provider) bool) error {
	start := []byte{1}
	if after != "" {
		start = append(providerKey(after), 0)
	}
	var failed error
	err := r.Store.Scan(start, []byte{2}, func(_, value []byte) bool {
		var p Provider
		p, failed = decodeProvider(value)
		return failed == nil && yield(p)
	})
	if failed != nil {
		return failed
	}
	return err
}

// Owner is the provider that a node key belongs to.
func (r Registry) Owner(key fallow.Key) (fallow.Account, bool, error) {
	b, err := r.Store.Get(nodeKey(key))
	return fallow.Account(b), b != nil, err
}

// NodeEpoch is the epoch in force of a provider's node key.
func (r Registry) NodeEpoch(provider fallow.Account, key fallow.Key) (epoch uint64, ok bool, err error) {
	p, ok, err := r.Provider(provider)
	if err != nil || !ok {
		return 0, false, err
	}
	for _, n := range p.Nodes {
		if n.Key == key {
			return n.Epoch, true, nil
		}
	}
	return 0, false, nil
}

// Standing is what a provider's bond stands for, and whether it is bonded: a
// provider below the least bond, or on its way out, is not.
func (r Registry) Standing(provider fallow.Account) (bond fallow.Credits, bonded bool, err error) {
	p, ok, err := r.Provider(provider)
	if err != nil || !ok {
		return 0, false, err
	}
	params, err := r.Params()
	if err != nil {
		return 0, false, err
	}
	return params.value(p.Bond), p.Bond >= params.MinBond, nil
}

// value is what a bond stands for: at most what credits can count, so that no
// price that governance sets makes a bond that rules fail on.
func (p RegistryParams) value(bond Tokens) fallow.Credits {
	v, err := fallow.PicoOf(p.BondPrice).Mul(uint64(bond))
	if err == nil {
		var c fallow.Credits
		if c, err = v.Floor(); err == nil {
			return c
		}
	}
	return math.MaxUint64
}

// Register takes a bond and lists node keys.
func (r Registry) Register(at Block, owner fallow.Account, bond Tokens, l Listing) ([]Effect, error) {
	if err := CheckAccount("owner", owner); err != nil {
		return nil, err
	}
	params, err := r.Params()
	if err != nil {
		return nil, err
	}
	_, there, err := r.Provider(owner)
	switch {
	case err != nil:
		return nil, err
	case there:
		return nil, fmt.Errorf("register %s: %w", owner, ErrRegistered)
	case len(params.Allowed) > 0 && !slices.Contains(params.Allowed, owner):
		return nil, fmt.Errorf("register %s: %w", owner, ErrNotAllowed)
	case bond < params.MinBond:
		return nil, fmt.Errorf("register %s: bond of %d ufal: %w of %d ufal", owner, bond, ErrBond, params.MinBond)
	}
	p := Provider{Owner: owner, Bond: bond, Registered: at.Height}
	if err := r.list(params, &p, l); err != nil {
		return nil, fmt.Errorf("register %s: %w", owner, err)
	}
	return []Effect{
		Move{From: owner, To: BondPool, Denom: fallow.TokenDenom, Amount: uint64(bond)},
		Registered{Provider: owner},
	}, nil
}

// Update replaces a provider's listing. A node key that is new, or asked to
// rotate, gets the next epoch; one that is gone has none.
func (r Registry) Update(_ Block, owner fallow.Account, l Listing) ([]Effect, error) {
	params, err := r.Params()
	if err != nil {
		return nil, err
	}
	p, err := r.known(owner)
	if err != nil {
		return nil, err
	}
	if err := r.list(params, &p, l); err != nil {
		return nil, fmt.Errorf("update %s: %w", owner, err)
	}
	return []Effect{Updated{Provider: owner}}, nil
}

// Bond adds to a bond. A provider on its way out is back once its bond
// reaches the least.
func (r Registry) Bond(_ Block, owner fallow.Account, amount Tokens) ([]Effect, error) {
	p, err := r.known(owner)
	if err != nil {
		return nil, err
	}
	if amount == 0 || p.Bond+amount < amount {
		return nil, fmt.Errorf("bond %d ufal: %w", amount, ErrAmount)
	}
	p.Bond += amount
	if err := r.save(r.Store, p); err != nil {
		return nil, err
	}
	return []Effect{
		Move{From: owner, To: BondPool, Denom: fallow.TokenDenom, Amount: uint64(amount)},
		Updated{Provider: owner},
	}, nil
}

// Pause shows the market that no offers come. Offers that are signed stay
// valid.
func (r Registry) Pause(_ Block, owner fallow.Account, paused bool) ([]Effect, error) {
	p, err := r.known(owner)
	if err != nil {
		return nil, err
	}
	if p.Paused == paused {
		return nil, nil
	}
	p.Paused = paused
	if err := r.save(r.Store, p); err != nil {
		return nil, err
	}
	return []Effect{Updated{Provider: owner}}, nil
}

func (r Registry) known(owner fallow.Account) (Provider, error) {
	p, ok, err := r.Provider(owner)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", owner, ErrUnknownProvider)
	}
	return p, err
}

func (r Registry) save(s fallow.Store, p Provider) error {
	return s.Set(providerKey(p.Owner), encodeProvider(p))
}
