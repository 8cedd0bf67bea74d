package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"

	authzv1 "cosmossdk.io/api/cosmos/authz/v1beta1"
	bankv1 "cosmossdk.io/api/cosmos/bank/v1beta1"
	basev1 "cosmossdk.io/api/cosmos/base/v1beta1"
	feegrantv1 "cosmossdk.io/api/cosmos/feegrant/v1beta1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	providerv1 "fallow.network/api/provider"
	"fallow.network/market"
)

// Open asks for one lease: the offer as its provider signed it, the session
// key of the tenant's side, and what to reserve.
type Open struct {
	Offer   market.Signed
	Session fallow.Key
	Reserve fallow.Credits
}

// Result is what became of one entry: Reason is empty when it was done.
type Result struct {
	Lease  fallow.LeaseID
	Reason fallow.Reason
	// Amount is what moved, where an amount did.
	Amount fallow.Credits
}

// Node is one machine in a registration. Rotate asks for a new epoch.
type Node struct {
	Key    fallow.Key
	Addrs  []string
	Rotate bool
}

// Listing is what a provider shows of itself.
type Listing struct {
	Nodes      []Node
	Attributes []market.Attribute
	Region     string
	Hubs       []string
}

func (s *Sender) signer() string { return string(s.Account()) }

// Transfer sends coins to another account. Credits leave escrow by Withdraw
// alone, and the ledger refuses to send them.
func (s *Sender) Transfer(ctx context.Context, to fallow.Account, amount Tokens) (Tx, error) {
	_, tx, err := s.send(ctx, &bankv1.MsgSend{
		FromAddress: s.signer(), ToAddress: string(to), Amount: []*basev1.Coin{coin(amount)},
	})
	return tx, err
}

// Deposit puts credits into a tenant's escrow; the account's own when tenant
// is empty.
func (s *Sender) Deposit(ctx context.Context, tenant fallow.Account, amount fallow.Credits) (Tx, error) {
	_, tx, err := s.send(ctx, &leasev1.MsgDeposit{Sender: s.signer(), Tenant: string(tenant), Amount: uint64(amount)})
	return tx, err
}

// Withdraw takes credits out of escrow and says how many; 0 takes all that is free.
func (s *Sender) Withdraw(ctx context.Context, amount fallow.Credits) (fallow.Credits, Tx, error) {
	r, tx, err := s.send(ctx, &leasev1.MsgWithdraw{Tenant: s.signer(), Amount: uint64(amount)})
	if err != nil {
		return 0, tx, err
	}
	w, ok := r.(*leasev1.MsgWithdrawResponse)
	if !ok {
		return 0, tx, unexpected(tx, r)
	}
	return fallow.Credits(w.GetAmount()), tx, nil
}

// SetClientKey lets another account open leases from this escrow, up to limit
// in all and until a height; limit 0 ends that.
func (s *Sender) SetClientKey(ctx context.Context, client fallow.Account, limit fallow.Credits, until fallow.Height) (Tx, error) {
	_, tx, err := s.send(ctx, &leasev1.MsgSetClientKey{
		Tenant: s.signer(), Address: string(client), Limit: uint64(limit), ExpiresHeight: int64(until),
	})
	return tx, err
}

// OpenLeases opens leases from offers for a tenant: the account's own escrow,
// or one that has registered it as a client key. Each entry stands alone; the
// results are in their order.
func (s *Sender) OpenLeases(ctx context.Context, tenant fallow.Account, opens []Open) ([]Result, []Tx, error) {
	return inChunks(ctx, s, opens, func(opens []Open) proto.Message {
		m := &leasev1.MsgOpenLeases{Signer: s.signer(), Tenant: string(tenant)}
		for _, o := range opens {
			m.Entries = append(m.Entries, &leasev1.OpenEntry{Offer: signed(o.Offer), SessionKey: o.Session[:], Reserve: uint64(o.Reserve)})
		}
		return m
	})
}

// Raise lifts a batch lease's reserve to an amount, what was claimed included.
func (s *Sender) Raise(ctx context.Context, lease fallow.LeaseID, reserve fallow.Credits) (Tx, error) {
	_, tx, err := s.send(ctx, &leasev1.MsgRaise{Signer: s.signer(), Lease: uint64(lease), Reserve: uint64(reserve)})
	return tx, err
}

// Release frees reserves by their providers' signatures.
func (s *Sender) Release(ctx context.Context, releases []market.Signed) ([]Result, []Tx, error) {
	return inChunks(ctx, s, releases, func(part []market.Signed) proto.Message {
		return &leasev1.MsgRelease{Signer: s.signer(), Releases: allSigned(part)}
	})
}

// Start begins or extends services by horizons that their session keys signed.
func (s *Sender) Start(ctx context.Context, horizons []market.Signed) ([]Result, []Tx, error) {
	return inChunks(ctx, s, horizons, func(part []market.Signed) proto.Message {
		return &leasev1.MsgStart{Signer: s.signer(), Horizons: allSigned(part)}
	})
}

// Redeem claims what vouchers pay. The signer is their provider's owner.
func (s *Sender) Redeem(ctx context.Context, vouchers []market.Signed) ([]Result, []Tx, error) {
	return inChunks(ctx, s, vouchers, func(part []market.Signed) proto.Message {
		return &leasev1.MsgRedeem{Signer: s.signer(), Vouchers: allSigned(part)}
	})
}

// RedeemServices claims what services have accrued.
func (s *Sender) RedeemServices(ctx context.Context, leases []fallow.LeaseID) ([]Result, []Tx, error) {
	return inChunks(ctx, s, leases, func(part []fallow.LeaseID) proto.Message {
		return &leasev1.MsgRedeem{Signer: s.signer(), Services: ids(part)}
	})
}

// CloseLeases ends leases with a reason, by either side.
func (s *Sender) CloseLeases(ctx context.Context, reason fallow.Reason, leases []fallow.LeaseID) ([]Result, []Tx, error) {
	return inChunks(ctx, s, leases, func(part []fallow.LeaseID) proto.Message {
		return &leasev1.MsgClose{Signer: s.signer(), Reason: string(reason), Leases: ids(part)}
	})
}

// Leave hands a node releases and the closing of leases with a reason, and
// does not wait for their block: see Post.
func (s *Sender) Leave(ctx context.Context, releases []market.Signed, reason fallow.Reason, leases []fallow.LeaseID) (Tx, error) {
	var all []proto.Message
	for part := range slices.Chunk(releases, s.options.MaxEntries) {
		all = append(all, &leasev1.MsgRelease{Signer: s.signer(), Releases: allSigned(part)})
	}
	for part := range slices.Chunk(leases, s.options.MaxEntries) {
		all = append(all, &leasev1.MsgClose{Signer: s.signer(), Reason: string(reason), Leases: ids(part)})
	}
	return s.Post(ctx, all...)
}

// Register makes the account a provider with a bond.
func (s *Sender) Register(ctx context.Context, bond Tokens, l Listing) (Tx, error) {
	_, tx, err := s.send(ctx, &providerv1.MsgRegister{
		Owner: s.signer(), Bond: uint64(bond), Nodes: nodes(l.Nodes), Attributes: attributes(l.Attributes), Region: l.Region, Hubs: l.Hubs,
	})
	return tx, err
}

// Update replaces what the provider shows. A node key that is left out ends.
func (s *Sender) Update(ctx context.Context, l Listing) (Tx, error) {
	_, tx, err := s.send(ctx, &providerv1.MsgUpdate{
		Owner: s.signer(), Nodes: nodes(l.Nodes), Attributes: attributes(l.Attributes), Region: l.Region, Hubs: l.Hubs,
	})
	return tx, err
}

// Bond adds to the provider's bond.
func (s *Sender) Bond(ctx context.Context, amount Tokens) (Tx, error) {
	_, tx, err := s.send(ctx, &providerv1.MsgBond{Owner: s.signer(), Amount: uint64(amount)})
	return tx, err
}

// Pause shows the market that no offers come, or come again.
func (s *Sender) Pause(ctx context.Context, paused bool) (Tx, error) {
	_, tx, err := s.send(ctx, &providerv1.MsgPause{Owner: s.signer(), Paused: paused})
	return tx, err
}

// Unbond begins the way out for an amount of the bond (0: all of it) and says
// when it is paid out.
func (s *Sender) Unbond(ctx context.Context, amount Tokens) (fallow.Time, Tx, error) {
	r, tx, err := s.send(ctx, &providerv1.MsgUnbond{Owner: s.signer(), Amount: uint64(amount)})
	if err != nil {
		return 0, tx, err
	}
	u, ok := r.(*providerv1.MsgUnbondResponse)
	if !ok {
		return 0, tx, unexpected(tx, r)
	}
	return fallow.Time(u.GetUnbondsUnixMs()), tx, nil
}

// Upkeep are the messages that an operator key needs: redeeming and freeing,
// closing, and keeping the listing up to date. None moves the owner's funds
// anywhere but to the owner.
func Upkeep() []string {
	return []string{
		typeURL(&leasev1.MsgRedeem{}), typeURL(&leasev1.MsgRelease{}), typeURL(&leasev1.MsgClose{}),
		typeURL(&providerv1.MsgUpdate{}), typeURL(&providerv1.MsgPause{}),
	}
}

// GrantOperator lets an operator key send these messages (see Upkeep) for the
// account until a time, and pays its fees up to an allowance (0: its own).
func (s *Sender) GrantOperator(ctx context.Context, operator fallow.Account, messages []string, allowance Tokens, until time.Time) (Tx, error) {
	var all []proto.Message
	for _, url := range messages {
		a, err := anyOf(&authzv1.GenericAuthorization{Msg: url})
		if err != nil {
			return Tx{}, err
		}
		all = append(all, &authzv1.MsgGrant{
			Granter: s.signer(), Grantee: string(operator),
			Grant: &authzv1.Grant{Authorization: a, Expiration: timestamppb.New(until)},
		})
	}
	if allowance > 0 {
		a, err := anyOf(&feegrantv1.BasicAllowance{
			SpendLimit: []*basev1.Coin{coin(allowance)}, Expiration: timestamppb.New(until),
		})
		if err != nil {
			return Tx{}, err
		}
		all = append(all, &feegrantv1.MsgGrantAllowance{Granter: s.signer(), Grantee: string(operator), Allowance: a})
	}
	return s.Send(ctx, all...)
}

// inChunks sends entries in messages that the ledger takes, one after the
// other, and joins their results. After an error the results are of those
// entries that were done before.
func inChunks[T any](ctx context.Context, s *Sender, all []T, message func([]T) proto.Message) ([]Result, []Tx, error) {
	var out []Result
	var txs []Tx
	for part := range slices.Chunk(all, s.options.MaxEntries) {
		r, tx, err := s.send(ctx, message(part))
		if tx.Height > 0 {
			txs = append(txs, tx)
		}
		if err != nil {
			return out, txs, err
		}
		got := results(r)
		if len(got) != len(part) {
			return out, txs, fmt.Errorf("transaction %s: %d results for %d entries", tx.Hash, len(got), len(part))
		}
		for _, g := range got {
			out = append(out, Result{Lease: fallow.LeaseID(g.GetLease()), Reason: fallow.Reason(g.GetReason()), Amount: fallow.Credits(g.GetAmount())})
		}
	}
	return out, txs, nil
}

func unexpected(tx Tx, r proto.Message) error {
	return fmt.Errorf("transaction %s: unexpected response %s", tx.Hash, r.ProtoReflect().Descriptor().FullName())
}

func signed(s market.Signed) *leasev1.Signed {
	return &leasev1.Signed{Message: s.Message, Signature: s.Signature}
}

func allSigned(all []market.Signed) []*leasev1.Signed {
	out := make([]*leasev1.Signed, 0, len(all))
	for _, s := range all {
		out = append(out, signed(s))
	}
	return out
}

func ids(leases []fallow.LeaseID) []uint64 {
	out := make([]uint64, 0, len(leases))
	for _, l := range leases {
		out = append(out, uint64(l))
	}
	return out
}

func nodes(all []Node) []*providerv1.NodeKey {
	out := make([]*providerv1.NodeKey, 0, len(all))
	for _, n := range all {
		out = append(out, &providerv1.NodeKey{Key: n.Key[:], Addrs: n.Addrs, Rotate: n.Rotate})
	}
	return out
}

func attributes(all []market.Attribute) []*providerv1.Attribute {
	out := make([]*providerv1.Attribute, 0, len(all))
	for _, a := range all {
		out = append(out, &providerv1.Attribute{Key: a.Key, Value: a.Value})
	}
	return out
}
