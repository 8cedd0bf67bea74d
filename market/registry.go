package market

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

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
	bond, err = params.value(p.Bond)
	return bond, p.Bond >= params.MinBond, err
}

func (p RegistryParams) value(bond Tokens) (fallow.Credits, error) {
	v, err := fallow.PicoOf(p.BondPrice).Mul(uint64(bond))
	if err != nil {
		return 0, err
	}
	return v.Floor()
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

// Unbond begins the way out for an amount; zero is everything. What stays must
// reach the least bond and cover the exposure, or be nothing: then no lease
// opens any more, and the bond leaves once the time is over and nothing is
// exposed. A second unbond joins the first and starts its time anew.
func (r Registry) Unbond(at Block, owner fallow.Account, amount Tokens) (fallow.Time, []Effect, error) {
	p, err := r.known(owner)
	if err != nil {
		return 0, nil, err
	}
	params, err := r.Params()
	if err != nil {
		return 0, nil, err
	}
	if amount == 0 {
		amount = p.Bond
	}
	switch {
	case amount == 0 || amount > p.Bond || p.Unbonding+amount < amount:
		return 0, nil, fmt.Errorf("unbond %d of %d ufal: %w", amount, p.Bond, ErrAmount)
	case amount < p.Bond && p.Bond-amount < params.MinBond:
		return 0, nil, fmt.Errorf("unbond %d of %d ufal: what stays: %w of %d ufal; unbond everything to leave", amount, p.Bond, ErrBond, params.MinBond)
	case amount < p.Bond:
		covered, err := r.covers(at, params, owner, p.Bond-amount)
		if err != nil {
			return 0, nil, err
		}
		if !covered {
			return 0, nil, fmt.Errorf("unbond %d of %d ufal: %w", amount, p.Bond, ErrExposed)
		}
	}
	o := fallow.NewOverlay(r.Store)
	if p.Unbonding > 0 {
		if err := o.Delete(unbondKey(p.Unbonds, owner)); err != nil {
			return 0, nil, err
		}
	}
	p.Bond -= amount
	p.Unbonding += amount
	p.Unbonds = at.Time + fallow.Time(params.UnbondingMS)
	if err := o.Set(unbondKey(p.Unbonds, owner), []byte{1}); err != nil {
		return 0, nil, err
	}
	if err := r.save(o, p); err != nil {
		return 0, nil, err
	}
	return p.Unbonds, []Effect{Unbonding{Provider: owner, Amount: amount, Unbonds: p.Unbonds}}, o.Commit()
}

// unbondRetryMS is how long bond stays behind when it is due and still covers
// something.
const unbondRetryMS = 60_000

// EndBlock pays bonds back whose time is over, at most limit a block. Bond
// that still has to cover leases or payouts stays a minute longer.
func (r Registry) EndBlock(at Block, limit int) ([]Effect, error) {
	var due []fallow.Account
	err := r.Store.Scan([]byte{3}, unbondKey(at.Time+1, ""), func(key, _ []byte) bool {
		if len(due) >= limit {
			return false
		}
		due = append(due, fallow.Account(key[9:]))
		return true
	})
	if err != nil || len(due) == 0 {
		return nil, err
	}
	params, err := r.Params()
	if err != nil {
		return nil, err
	}
	o := fallow.NewOverlay(r.Store)
	var effects []Effect
	for _, owner := range due {
		p, err := r.known(owner)
		if err != nil {
			return nil, err
		}
		if err := o.Delete(unbondKey(p.Unbonds, owner)); err != nil {
			return nil, err
		}
		covered, err := r.covers(at, params, owner, p.Bond)
		if err != nil {
			return nil, err
		}
		if covered {
			effects = append(effects,
				Move{From: BondPool, To: owner, Denom: fallow.TokenDenom, Amount: uint64(p.Unbonding)},
				Unbonded{Provider: owner, Amount: p.Unbonding})
			p.Unbonding, p.Unbonds = 0, 0
		} else {
			p.Unbonds = at.Time + unbondRetryMS
			if err := o.Set(unbondKey(p.Unbonds, owner), []byte{1}); err != nil {
				return nil, err
			}
		}
		if err := r.save(o, p); err != nil {
			return nil, err
		}
	}
	return effects, o.Commit()
}

// Bonded is the sum of all bonds and of what is on its way out: the coins
// that BondPool must hold.
func (r Registry) Bonded() (Tokens, error) {
	var sum Tokens
	err := r.Providers("", func(p Provider) bool {
		sum += p.Bond + p.Unbonding
		return true
	})
	return sum, err
}

// covers says whether half of a bond covers what the provider is exposed to.
func (r Registry) covers(at Block, params RegistryParams, owner fallow.Account, bond Tokens) (bool, error) {
	if r.Exposure == nil {
		return true, nil
	}
	exposed, err := r.Exposure(at, owner)
	if err != nil {
		return false, err
	}
	value, err := params.value(bond)
	return exposed <= value/2, err
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

// list replaces p's listing by l and saves it.
func (r Registry) list(params RegistryParams, p *Provider, l Listing) error {
	if err := checkListing(params, l); err != nil {
		return err
	}
	o := fallow.NewOverlay(r.Store)
	was := p.Nodes
	for _, n := range was {
		if err := o.Delete(nodeKey(n.Key)); err != nil {
			return err
		}
	}
	p.Nodes = nil
	for _, n := range l.Nodes {
		switch owner, taken, err := r.Owner(n.Key); {
		case err != nil:
			return err
		case taken && owner != p.Owner:
			return fmt.Errorf("node %s: %w", n.Key.Short(), ErrNodeTaken)
		}
		node := Node{Key: n.Key, Addrs: n.Addrs}
		if at := slices.IndexFunc(was, func(w Node) bool { return w.Key == n.Key }); at >= 0 && !n.Rotate {
			node.Epoch = was[at].Epoch
		} else {
			p.LastEpoch++
			node.Epoch = p.LastEpoch
		}
		p.Nodes = append(p.Nodes, node)
		if err := o.Set(nodeKey(n.Key), []byte(p.Owner)); err != nil {
			return err
		}
	}
	p.Attributes, p.Region, p.Hubs = l.Attributes, l.Region, l.Hubs
	if err := r.save(o, *p); err != nil {
		return err
	}
	return o.Commit()
}

func checkListing(params RegistryParams, l Listing) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrListing}, args...)...)
	}
	switch {
	case len(l.Nodes) > int(params.MaxNodes):
		return bad("%d nodes, above %d", len(l.Nodes), params.MaxNodes)
	case len(l.Attributes) > int(params.MaxAttributes):
		return bad("%d attributes, above %d", len(l.Attributes), params.MaxAttributes)
	case len(l.Hubs) > MaxAddrs:
		return bad("%d hubs, above %d", len(l.Hubs), MaxAddrs)
	}
	if err := checkName("region", l.Region, true); err != nil {
		return bad("%w", err)
	}
	for i, a := range l.Attributes {
		if err := a.Check(); err != nil {
			return bad("%w", err)
		}
		if slices.ContainsFunc(l.Attributes[:i], func(b Attribute) bool { return a.Key == b.Key }) {
			return bad("attribute %q stands twice", a.Key)
		}
	}
	addrs := slices.Clone(l.Hubs)
	for i, n := range l.Nodes {
		switch {
		case n.Key == fallow.Key{}:
			return bad("a node without a key")
		case len(n.Addrs) > MaxAddrs:
			return bad("node %s has %d addresses, above %d", n.Key.Short(), len(n.Addrs), MaxAddrs)
		case slices.ContainsFunc(l.Nodes[:i], func(m NodeListing) bool { return n.Key == m.Key }):
			return bad("node %s stands twice", n.Key.Short())
		}
		addrs = append(addrs, n.Addrs...)
	}
	for _, a := range addrs {
		if len(a) == 0 || len(a) > 256 || strings.ContainsFunc(a, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return bad("address %.40q: want 1 to 256 printable characters", a)
		}
	}
	return nil
}
