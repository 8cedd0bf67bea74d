package lease

import (
	"math/big"

	"github.com/cosmos/gogoproto/proto"

	"fallow.network"
	api "fallow.network/api/chain/lease"
	"fallow.network/market"
	"fallow.network/settle"
)

// ToParams writes the params as a message.
func ToParams(p settle.Params) api.Params {
	return api.Params{
		CheckWindowMs: p.CheckWindowMS, GraceMs: p.GraceMS, StartWindowMs: p.StartWindowMS, MaxOfferBlocks: p.MaxOfferBlocks,
		MaxClaimWindowMs: p.MaxClaimWindowMS, MaxServices: p.MaxServices, MaxQueuePerBlock: p.MaxQueuePerBlock,
		MaxEntries: p.MaxEntries, MaxHorizonMs: p.MaxHorizonMS, DepositSeconds: p.DepositSeconds,
	}
}

func fromParams(m api.Params) settle.Params {
	return settle.Params{
		CheckWindowMS: m.CheckWindowMs, GraceMS: m.GraceMs, StartWindowMS: m.StartWindowMs, MaxOfferBlocks: m.MaxOfferBlocks,
		MaxClaimWindowMS: m.MaxClaimWindowMs, MaxServices: m.MaxServices, MaxQueuePerBlock: m.MaxQueuePerBlock,
		MaxEntries: m.MaxEntries, MaxHorizonMS: m.MaxHorizonMs, DepositSeconds: m.DepositSeconds,
	}
}

// pico writes an amount as whole pico-credits in decimal digits.
func pico(p fallow.Pico) string {
	v := new(big.Int).SetUint64(p.Hi)
	return v.Lsh(v, 64).Or(v, new(big.Int).SetUint64(p.Lo)).String()
}

func signed(s api.Signed) market.Signed {
	return market.Signed{Message: s.Message, Signature: s.Signature}
}

func toSigned(list []api.Signed) []market.Signed {
	out := make([]market.Signed, len(list))
	for i, s := range list {
		out[i] = signed(s)
	}
	return out
}

func toLeaseIDs(list []uint64) []fallow.LeaseID {
	out := make([]fallow.LeaseID, len(list))
	for i, id := range list {
		out[i] = fallow.LeaseID(id)
	}
	return out
}

func toResults(list []settle.Result) []api.Result {
	out := make([]api.Result, len(list))
	for i, r := range list {
		out[i] = api.Result{Lease: uint64(r.Lease), Reason: string(r.Reason), Amount: uint64(r.Amount)}
	}
	return out
}

func toAccount(v settle.View) api.Account {
	m := api.Account{
		Owner: string(v.Owner), Free: pico(v.Free), Reserved: pico(v.Reserved), Rate: pico(v.Rate),
		DryUnixMs: int64(v.Dry), AdvancedUnixMs: int64(v.Advanced), OpenLeases: v.Open,
	}
	for _, k := range v.Keys {
		m.ClientKeys = append(m.ClientKeys, api.ClientKey{
			Address: string(k.Address), Limit: uint64(k.Limit), Spent: uint64(k.Spent), ExpiresHeight: int64(k.Expires),
		})
	}
	return m
}

func toLease(l settle.Lease) api.Lease {
	return api.Lease{
		Id: uint64(l.ID), Tenant: string(l.Tenant), Provider: string(l.Provider), NodeKey: l.NodeKey[:], KeyEpoch: l.KeyEpoch,
		SessionKey: l.SessionKey[:], Kind: uint32(l.Kind), State: api.State(l.State), Offer: l.Offer[:], Workload: l.Workload[:],
		Reserve: uint64(l.Reserve), MaxReserve: uint64(l.MaxReserve), Claimed: pico(l.Claimed), Paid: uint64(l.Paid),
		ReceiptsRoot: l.ReceiptsRoot[:], Receipts: l.Receipts, OpenedHeight: int64(l.Opened.Height), OpenedUnixMs: int64(l.Opened.Time),
		ClaimWindowMs: l.ClaimWindowMS, DeadlineUnixMs: int64(l.Deadline), Reason: string(l.Reason), ClosedBy: string(l.ClosedBy),
		Rate: pico(l.Rate), DiskRate: pico(l.DiskRate), HorizonUnixMs: int64(l.Horizon), HorizonSequence: l.Sequence,
		Client: string(l.Client), IdleMs: l.IdleMS,
	}
}

// ToEvent writes an effect as the typed event that tells of it, or nil.
func ToEvent(e settle.Effect) proto.Message {
	switch e := e.(type) {
	case settle.Deposited:
		return &api.EventDeposit{Tenant: string(e.Tenant), Amount: uint64(e.Amount)}
	case settle.Withdrawn:
		return &api.EventWithdraw{Tenant: string(e.Tenant), Amount: uint64(e.Amount)}
	case settle.Opened:
		return &api.EventLeaseOpened{
			Lease: uint64(e.Lease), Tenant: string(e.Tenant), Provider: string(e.Provider), Reserve: uint64(e.Reserve), Offer: e.Offer.String(),
		}
	case settle.Skipped:
		return &api.EventLeaseSkipped{Tenant: string(e.Tenant), Provider: string(e.Provider), Reason: string(e.Reason), Offer: e.Offer.String()}
	case settle.Changed:
		return &api.EventLeaseState{
			Lease: uint64(e.Lease), Tenant: string(e.Tenant), Provider: string(e.Provider), State: e.State.String(), Reason: string(e.Reason),
		}
	case settle.Redeemed:
		return &api.EventRedeemed{Lease: uint64(e.Lease), Provider: string(e.Provider), Amount: uint64(e.Amount), MaturesUnixMs: int64(e.Matures)}
	case settle.Paid:
		return &api.EventPaid{Provider: string(e.Provider), Amount: uint64(e.Amount)}
	default:
		return nil
	}
}
