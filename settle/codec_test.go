package settle

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/market"
)

func digest(t *rapid.T, name string) fallow.Digest {
	return fallow.Sum(rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, name))
}

func amount(t *rapid.T, name string) fallow.Pico {
	return fallow.Pico{Hi: rapid.Uint64().Draw(t, name), Lo: rapid.Uint64().Draw(t, name)}
}

func moment(t *rapid.T, name string) fallow.Time {
	return fallow.Time(rapid.Int64Min(0).Draw(t, name))
}

func owner(t *rapid.T, name string) fallow.Account {
	return fallow.Account(rapid.StringN(0, 20, 90).Draw(t, name))
}

func TestRecordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Lease{
			ID: fallow.LeaseID(rapid.Uint64().Draw(t, "id")), Tenant: owner(t, "tenant"), Provider: owner(t, "provider"),
			Client: owner(t, "client"), NodeKey: fallow.Key(digest(t, "node")), KeyEpoch: rapid.Uint64().Draw(t, "epoch"),
			SessionKey: fallow.Key(digest(t, "session")), Kind: market.Kind(rapid.Uint32Range(1, 2).Draw(t, "kind")),
			State: State(rapid.Uint32Range(1, 5).Draw(t, "state")), Offer: digest(t, "offer"), Workload: digest(t, "workload"),
			Opened:  Block{Height: fallow.Height(moment(t, "height")), Time: moment(t, "time")},
			Reserve: fallow.Credits(rapid.Uint64().Draw(t, "reserve")), MaxReserve: fallow.Credits(rapid.Uint64().Draw(t, "max")),
			Granted: fallow.Credits(rapid.Uint64().Draw(t, "granted")), Claimed: amount(t, "claimed"),
			Paid: fallow.Credits(rapid.Uint64().Draw(t, "paid")), ReceiptsRoot: digest(t, "root"), Receipts: rapid.Uint32().Draw(t, "receipts"),
			ClaimWindowMS: rapid.Uint64().Draw(t, "window"), IdleMS: rapid.Uint64().Draw(t, "idle"), Deadline: moment(t, "deadline"),
			Reason: fallow.Reason(rapid.String().Draw(t, "reason")), ClosedBy: owner(t, "by"),
		}
		if l.Kind == market.KindService {
			l.Rate, l.DiskRate, l.DiskUsed = amount(t, "rate"), amount(t, "disk"), amount(t, "used")
			l.GraceMS, l.Horizon, l.Sequence = rapid.Uint64().Draw(t, "grace"), moment(t, "horizon"), rapid.Uint64().Draw(t, "sequence")
		}
		if got, err := decodeLease(encodeLease(l)); err != nil || got != l {
			t.Fatalf("%+v, %v", got, err)
		}
		a := Account{
			Owner: owner(t, "owner"), Free: amount(t, "free"), Reserved: amount(t, "reserved"),
			Advanced: moment(t, "advanced"), Open: rapid.Uint64().Draw(t, "open"), Queued: moment(t, "queued"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "keys") {
			a.Keys = append(a.Keys, ClientKey{
				Address: owner(t, "key"), Limit: fallow.Credits(rapid.Uint64().Draw(t, "limit")),
				Spent: fallow.Credits(rapid.Uint64().Draw(t, "spent")), Expires: fallow.Height(moment(t, "expires")),
			})
		}
		if got, err := decodeAccount(encodeAccount(a)); err != nil || !reflect.DeepEqual(got, a) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
	p := DefaultParams()
	if got, err := decodeParams(encodeParams(p)); err != nil || got != p || p.Check() != nil {
		t.Fatalf("%+v, %v", got, err)
	}
}

// FuzzRecords: a record that decodes has that one encoding.
func FuzzRecords(f *testing.F) {
	f.Add(encodeLease(Lease{ID: 1, Tenant: "t", Kind: market.KindService, Rate: fallow.PicoOf(5)}))
	f.Add(encodeAccount(Account{Owner: "t", Keys: []ClientKey{{Address: "c"}}}))
	f.Add(encodeParams(DefaultParams()))
	f.Add(encodeCredits(7))
	f.Fuzz(func(t *testing.T, b []byte) {
		var again [][]byte
		if l, err := decodeLease(b); err == nil {
			again = append(again, encodeLease(l))
		}
		if a, err := decodeAccount(b); err == nil {
			again = append(again, encodeAccount(a))
		}
		if p, err := decodeParams(b); err == nil {
			again = append(again, encodeParams(p))
		}
		if c, err := decodeCredits(b); err == nil {
			again = append(again, encodeCredits(c))
		}
		for _, got := range again {
			if !bytes.Equal(got, b) {
				t.Fatalf("%x comes back as %x", b, got)
			}
		}
	})
}

// TestInvariantsSeeEveryBreach breaks sound books on purpose, one way at a time.
func TestInvariantsSeeEveryBreach(t *testing.T) {
	sound := func() (*fallow.Memory, Books) {
		s := &fallow.Memory{}
		b := Books{Store: s}
		tx, err := b.begin(Block{Height: 5, Time: 100})
		if err != nil {
			t.Fatal(err)
		}
		e, err := tx.touch("t")
		if err != nil {
			t.Fatal(err)
		}
		e.Free = fallow.Credits(1000).Pico()
		for i := range 3 {
			l := Lease{Tenant: "t", Client: "t", Provider: "p", Kind: market.KindBatch, State: Open, Reserve: 100, MaxReserve: 200, ClaimWindowMS: 50}
			if i == 2 {
				l.Kind, l.Deadline = market.KindService, 500
			}
			if err := tx.write(e, &l, market.Offer{LastHeight: 9}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := tx.commit(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Close(Block{Height: 6, Time: 110}, "t", []fallow.LeaseID{1}, ""); err != nil {
			t.Fatal(err)
		}
		if err := b.Invariants(1000); err != nil {
			t.Fatal(err)
		}
		return s, b
	}
	lease := func(s *fallow.Memory, id fallow.LeaseID, change func(*Lease)) {
		v, _ := s.Get(leaseKey(id))
		l, err := decodeLease(v)
		if err != nil {
			t.Fatal(err)
		}
		change(&l)
		_ = s.Set(leaseKey(id), encodeLease(l))
	}
	acc := func(s *fallow.Memory, change func(*Account)) {
		v, _ := s.Get(accountKey("t"))
		a, err := decodeAccount(v)
		if err != nil {
			t.Fatal(err)
		}
		change(&a)
		_ = s.Set(accountKey("t"), encodeAccount(a))
	}
	tests := map[string]func(*fallow.Memory){
		"more free":      func(s *fallow.Memory) { acc(s, func(a *Account) { _ = add(&a.Free, fallow.PicoOf(1)) }) },
		"reserved moved": func(s *fallow.Memory) { acc(s, func(a *Account) { a.Free, a.Reserved = a.Reserved, a.Free }) },
		"open count":     func(s *fallow.Memory) { acc(s, func(a *Account) { a.Open-- }) },
		"queued":         func(s *fallow.Memory) { acc(s, func(a *Account) { a.Queued++ }) },
		"account gone":   func(s *fallow.Memory) { _ = s.Delete(accountKey("t")) },
		"paid more":      func(s *fallow.Memory) { lease(s, 2, func(l *Lease) { l.Paid = 1 }) },
		"claimed beyond": func(s *fallow.Memory) {
			lease(s, 2, func(l *Lease) { l.Claimed = fallow.Credits(101).Pico(); l.Paid = 101 })
		},
		"reserve raised":         func(s *fallow.Memory) { lease(s, 2, func(l *Lease) { l.Reserve++ }) },
		"closed without reason":  func(s *fallow.Memory) { lease(s, 1, func(l *Lease) { l.Reason = "" }) },
		"closed by nobody":       func(s *fallow.Memory) { lease(s, 1, func(l *Lease) { l.ClosedBy = "" }) },
		"open with reason":       func(s *fallow.Memory) { lease(s, 2, func(l *Lease) { l.Reason = "dry"; l.ClosedBy = "t" }) },
		"state unknown":          func(s *fallow.Memory) { lease(s, 2, func(l *Lease) { l.State = 0 }) },
		"kind unknown":           func(s *fallow.Memory) { lease(s, 2, func(l *Lease) { l.Kind = 0 }) },
		"another tenant":         func(s *fallow.Memory) { lease(s, 2, func(l *Lease) { l.Tenant = "u" }) },
		"service used too much":  func(s *fallow.Memory) { lease(s, 3, func(l *Lease) { l.DiskUsed = fallow.Credits(101).Pico() }) },
		"service accrued":        func(s *fallow.Memory) { lease(s, 3, func(l *Lease) { l.Claimed = fallow.PicoOf(1) }) },
		"lease gone":             func(s *fallow.Memory) { _ = s.Delete(leaseKey(2)) },
		"index gone":             func(s *fallow.Memory) { _ = s.Delete(indexKey(atProviderOpen, "p", 2)) },
		"index of nothing":       func(s *fallow.Memory) { _ = s.Set(indexKey(atTenant, "t", 9), mark) },
		"claim window gone":      func(s *fallow.Memory) { _ = s.Delete(timedKey(atClaim, "t", 160, 1)) },
		"held record":            func(s *fallow.Memory) { _ = s.Set(heldKey("p"), encodeCredits(299)) },
		"held record gone":       func(s *fallow.Memory) { _ = s.Delete(heldKey("p")) },
		"held record of nothing": func(s *fallow.Memory) { _ = s.Set(heldKey("q"), encodeCredits(1)) },
		"payout of nothing":      func(s *fallow.Memory) { _ = s.Set(payoutKey("p", 900), encodeCredits(1)) },
		"payout announced":       func(s *fallow.Memory) { _ = s.Set(queueKey(atDue, 900, "p"), mark) },
		"unknown key":            func(s *fallow.Memory) { _ = s.Set([]byte{77}, mark) },
		"garbage":                func(s *fallow.Memory) { _ = s.Set(leaseKey(2), []byte("garbage")) },
	}
	for name, breakIt := range tests {
		t.Run(name, func(t *testing.T) {
			s, b := sound()
			breakIt(s)
			if err := b.Invariants(1000); !errors.Is(err, ErrBreach) {
				t.Errorf("not seen: %v", err)
			}
		})
	}
	_, b := sound()
	if err := b.Invariants(999); !errors.Is(err, ErrBreach) {
		t.Errorf("a missing coin is not seen: %v", err)
	}
}

func TestParamsBounds(t *testing.T) {
	for name, change := range map[string]func(*Params){
		"check window": func(p *Params) { p.CheckWindowMS = 0 },
		"grace":        func(p *Params) { p.GraceMS = 1 << 62 },
		"start":        func(p *Params) { p.StartWindowMS = 0 },
		"offers":       func(p *Params) { p.MaxOfferBlocks = 0 },
		"services":     func(p *Params) { p.MaxServices = 1 << 20 },
		"queue":        func(p *Params) { p.MaxQueuePerBlock = 2 },
		"entries":      func(p *Params) { p.MaxEntries = 0 },
		"deposit":      func(p *Params) { p.DepositSeconds = 1 << 40 },
	} {
		p := DefaultParams()
		change(&p)
		if !errors.Is((Books{Store: &fallow.Memory{}}).SetParams(p), ErrParams) {
			t.Errorf("%s is taken", name)
		}
	}
}
