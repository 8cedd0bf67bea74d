package sdk

import (
	"errors"
	"fmt"

	"fallow.network"
	leasev1 "fallow.network/api/lease"
	"fallow.network/ledger"
	"fallow.network/market"
	"fallow.network/settle"
)

// leaseOf turns a node's answer into the rules' type.
func leaseOf(l *leasev1.Lease) (settle.Lease, error) {
	var errs []error
	pico := func(s string) fallow.Pico {
		if s == "" {
			return fallow.Pico{}
		}
		p, err := ledger.Pico(s)
		errs = append(errs, err)
		return p
	}
	digest := func(b []byte) fallow.Digest {
		if len(b) == 0 {
			return fallow.Digest{}
		}
		d, err := fallow.DigestFrom(b)
		errs = append(errs, err)
		return d
	}
	key := func(b []byte) fallow.Key {
		k, err := fallow.KeyFrom(b)
		errs = append(errs, err)
		return k
	}
	out := settle.Lease{
		ID:            fallow.LeaseID(l.GetId()),
		Tenant:        fallow.Account(l.GetTenant()),
		Provider:      fallow.Account(l.GetProvider()),
		Client:        fallow.Account(l.GetClient()),
		NodeKey:       key(l.GetNodeKey()),
		KeyEpoch:      l.GetKeyEpoch(),
		SessionKey:    key(l.GetSessionKey()),
		Kind:          market.Kind(l.GetKind()),
		State:         settle.State(l.GetState()),
		Offer:         digest(l.GetOffer()),
		Workload:      digest(l.GetWorkload()),
		Opened:        settle.Block{Height: fallow.Height(l.GetOpenedHeight()), Time: fallow.Time(l.GetOpenedUnixMs())},
		Reserve:       fallow.Credits(l.GetReserve()),
		MaxReserve:    fallow.Credits(l.GetMaxReserve()),
		Claimed:       pico(l.GetClaimed()),
		Paid:          fallow.Credits(l.GetPaid()),
		ReceiptsRoot:  digest(l.GetReceiptsRoot()),
		Receipts:      l.GetReceipts(),
		ClaimWindowMS: l.GetClaimWindowMs(),
		IdleMS:        l.GetIdleMs(),
		Deadline:      fallow.Time(l.GetDeadlineUnixMs()),
		Reason:        fallow.Reason(l.GetReason()),
		ClosedBy:      fallow.Account(l.GetClosedBy()),
		Rate:          pico(l.GetRate()),
		DiskRate:      pico(l.GetDiskRate()),
		Horizon:       fallow.Time(l.GetHorizonUnixMs()),
		Sequence:      l.GetHorizonSequence(),
	}
	if err := errors.Join(errs...); err != nil {
		return out, fmt.Errorf("lease %d as the node tells it: %w", l.GetId(), err)
	}
	return out, nil
}

// accountOf turns a node's answer into the rules' type.
func accountOf(a *leasev1.Account) (settle.Account, error) {
	free, err := ledger.Pico(a.GetFree())
	if err != nil {
		return settle.Account{}, fmt.Errorf("escrow as the node tells it: %w", err)
	}
	reserved, err := ledger.Pico(a.GetReserved())
	if err != nil {
		return settle.Account{}, fmt.Errorf("escrow as the node tells it: %w", err)
	}
	return settle.Account{
		Owner: fallow.Account(a.GetOwner()), Free: free, Reserved: reserved,
		Advanced: fallow.Time(a.GetAdvancedUnixMs()), Open: a.GetOpenLeases(),
	}, nil
}
