package settle

import (
	"fmt"

	"fallow.network"
	"fallow.network/market"
)

const recordVersion = 1

func encodeParams(p Params) []byte {
	w := fallow.NewRecord(recordVersion)
	w.Uint(p.CheckWindowMS)
	w.Uint(p.GraceMS)
	w.Uint(p.StartWindowMS)
	w.Uint(p.MaxOfferBlocks)
	w.Uint(p.MaxClaimWindowMS)
	w.Uint(uint64(p.MaxServices))
	w.Uint(uint64(p.MaxQueuePerBlock))
	w.Uint(uint64(p.MaxEntries))
	w.Uint(p.MaxHorizonMS)
	w.Uint(p.DepositSeconds)
	return w.Done()
}

func decodeParams(b []byte) (Params, error) {
	r := fallow.ReadRecord(b, recordVersion)
	p := Params{
		CheckWindowMS:    r.Uint(),
		GraceMS:          r.Uint(),
		StartWindowMS:    r.Uint(),
		MaxOfferBlocks:   r.Uint(),
		MaxClaimWindowMS: r.Uint(),
		MaxServices:      r.Uint32(),
		MaxQueuePerBlock: r.Uint32(),
		MaxEntries:       r.Uint32(),
		MaxHorizonMS:     r.Uint(),
		DepositSeconds:   r.Uint(),
	}
	return p, wrap("params", r.Done())
}

func encodeAccount(a Account) []byte {
	w := fallow.NewRecord(recordVersion)
	w.String(string(a.Owner))
	w.Pico(a.Free)
	w.Pico(a.Reserved)
	w.Time(int64(a.Advanced))
	w.Uint(a.Open)
	w.Uint(uint64(len(a.Keys)))
	for _, k := range a.Keys {
		w.String(string(k.Address))
		w.Uint(uint64(k.Limit))
		w.Uint(uint64(k.Spent))
		w.Time(int64(k.Expires))
		w.Uint(uint64(k.Since))
	}
	w.Time(int64(a.Queued))
	return w.Done()
}

func decodeAccount(b []byte) (Account, error) {
	r := fallow.ReadRecord(b, recordVersion)
	a := Account{
		Owner:    fallow.Account(r.String()),
		Free:     r.Pico(),
		Reserved: r.Pico(),
		Advanced: fallow.Time(r.Time()),
		Open:     r.Uint(),
	}
	for range r.Count() {
		a.Keys = append(a.Keys, ClientKey{
			Address: fallow.Account(r.String()),
			Limit:   fallow.Credits(r.Uint()),
			Spent:   fallow.Credits(r.Uint()),
			Expires: fallow.Height(r.Time()),
			Since:   fallow.LeaseID(r.Uint()),
		})
	}
	a.Queued = fallow.Time(r.Time())
	return a, wrap("account", r.Done())
}

func encodeLease(l Lease) []byte {
	w := fallow.NewRecord(recordVersion)
	w.Uint(uint64(l.ID))
	w.String(string(l.Tenant))
	w.String(string(l.Provider))
	w.String(string(l.Client))
	w.Bytes(l.NodeKey[:])
	w.Uint(l.KeyEpoch)
	w.Bytes(l.SessionKey[:])
	w.Uint(uint64(l.Kind))
	w.Uint(uint64(l.State))
	w.Bytes(l.Offer[:])
	w.Bytes(l.Workload[:])
	w.Time(int64(l.Opened.Height))
	w.Time(int64(l.Opened.Time))
	w.Uint(uint64(l.Reserve))
	w.Uint(uint64(l.MaxReserve))
	w.Uint(uint64(l.Granted))
	w.Pico(l.Claimed)
	w.Uint(uint64(l.Paid))
	w.Bytes(l.ReceiptsRoot[:])
	w.Uint(uint64(l.Receipts))
	w.Uint(l.ClaimWindowMS)
	w.Uint(l.IdleMS)
	w.Time(int64(l.Deadline))
	w.String(string(l.Reason))
	w.String(string(l.ClosedBy))
	if l.Kind == market.KindService {
		w.Pico(l.Rate)
		w.Pico(l.DiskRate)
		w.Pico(l.DiskUsed)
		w.Uint(l.GraceMS)
		w.Time(int64(l.Horizon))
		w.Uint(l.Sequence)
	}
	return w.Done()
}

func decodeLease(b []byte) (Lease, error) {
	r := fallow.ReadRecord(b, recordVersion)
	l := Lease{
		ID:       fallow.LeaseID(r.Uint()),
		Tenant:   fallow.Account(r.String()),
		Provider: fallow.Account(r.String()),
		Client:   fallow.Account(r.String()),
	}
	r.Fixed(l.NodeKey[:])
	l.KeyEpoch = r.Uint()
	r.Fixed(l.SessionKey[:])
	l.Kind = market.Kind(r.Uint32())
	l.State = State(r.Uint32())
	r.Fixed(l.Offer[:])
	r.Fixed(l.Workload[:])
	l.Opened.Height = fallow.Height(r.Time())
	l.Opened.Time = fallow.Time(r.Time())
	l.Reserve = fallow.Credits(r.Uint())
	l.MaxReserve = fallow.Credits(r.Uint())
	l.Granted = fallow.Credits(r.Uint())
	l.Claimed = r.Pico()
	l.Paid = fallow.Credits(r.Uint())
	r.Fixed(l.ReceiptsRoot[:])
	l.Receipts = r.Uint32()
	l.ClaimWindowMS = r.Uint()
	l.IdleMS = r.Uint()
	l.Deadline = fallow.Time(r.Time())
	l.Reason = fallow.Reason(r.String())
	l.ClosedBy = fallow.Account(r.String())
	if l.Kind == market.KindService {
		l.Rate = r.Pico()
		l.DiskRate = r.Pico()
		l.DiskUsed = r.Pico()
		l.GraceMS = r.Uint()
		l.Horizon = fallow.Time(r.Time())
		l.Sequence = r.Uint()
	}
	return l, wrap("lease", r.Done())
}

func encodeCredits(c fallow.Credits) []byte {
	w := fallow.NewRecord(recordVersion)
	w.Uint(uint64(c))
	return w.Done()
}

func decodeCredits(b []byte) (fallow.Credits, error) {
	r := fallow.ReadRecord(b, recordVersion)
	c := fallow.Credits(r.Uint())
	return c, wrap("amount", r.Done())
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
