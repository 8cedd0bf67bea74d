package settle_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"

	"pgregory.net/rapid"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/wire"
)

const chainID = "fallow-test"

// account makes a valid address out of a name.
func account(name string) fallow.Account {
	sum := sha256.Sum256([]byte(name))
	return wire.Address(market.ClientKey(append([]byte{2}, sum[:]...)))
}

func edKey(name string) ed25519.PrivateKey {
	sum := sha256.Sum256([]byte("key of " + name))
	return ed25519.NewKeyFromSeed(sum[:])
}

// bank holds ucredit outside and inside of escrow.
type bank map[fallow.Account]fallow.Credits

// bonds are providers whose node key is edKey of their name.
type bonds struct {
	value  map[fallow.Account]fallow.Credits
	epochs map[fallow.Account]uint64
	keys   map[fallow.Account]fallow.Key
}

func (b *bonds) Standing(p fallow.Account) (fallow.Credits, bool, error) {
	v, ok := b.value[p]
	return v, ok && v > 0, nil
}

func (b *bonds) NodeEpoch(p fallow.Account, k fallow.Key) (uint64, bool, error) {
	return b.epochs[p], b.keys[p] == k, nil
}

// world is the books with a bank and providers around them.
type world struct {
	t     rapid.TB // of the test or, in a property, of its case
	store *fallow.Memory
	books settle.Books
	bonds *bonds
	bank  bank
	at    settle.Block
	seq   uint64
	log   []settle.Effect
}

func testParams() settle.Params {
	return settle.Params{
		CheckWindowMS:    10_000,
		GraceMS:          20_000,
		StartWindowMS:    5_000,
		MaxOfferBlocks:   100,
		MaxClaimWindowMS: 60_000,
		MaxServices:      3,
		MaxQueuePerBlock: 9,
		MaxEntries:       10,
		MaxHorizonMS:     60_000,
		DepositSeconds:   10,
	}
}

func newWorld(t rapid.TB, params settle.Params) *world {
	t.Helper()
	w := &world{
		t:     t,
		store: &fallow.Memory{},
		bonds: &bonds{
			value:  map[fallow.Account]fallow.Credits{},
			epochs: map[fallow.Account]uint64{},
			keys:   map[fallow.Account]fallow.Key{},
		},
		bank: bank{},
		at:   settle.Block{Height: 10, Time: 1_000_000},
	}
	w.books = settle.Books{Store: w.store, Bonds: w.bonds, Decode: wire.Decoder{}, Verify: settle.Verifier(chainID)}
	if err := w.books.SetParams(params); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"p1", "p2"} {
		p := account(name)
		w.bonds.value[p] = 1_000_000_000_000
		w.bonds.epochs[p] = 1
		w.bonds.keys[p] = wire.PublicKey(edKey(name))
	}
	for _, name := range []string{"t1", "t2"} {
		w.bank[account(name)] = 1_000_000_000
	}
	return w
}

// do applies effects to the bank and checks the books.
func (w *world) do(effects []settle.Effect, err error) error {
	w.t.Helper()
	if err != nil {
		var no *market.Refusal
		if !errors.As(err, &no) {
			w.t.Fatalf("an error that is no refusal: %v", err)
		}
		if effects != nil {
			w.t.Fatalf("effects with a refusal: %v", effects)
		}
	}
	for _, e := range effects {
		if m, ok := e.(market.Move); ok {
			if m.Denom != fallow.CreditDenom || w.bank[m.From] < fallow.Credits(m.Amount) || m.Amount == 0 {
				w.t.Fatalf("%s moves %d %s of %d", m.From, m.Amount, m.Denom, w.bank[m.From])
			}
			w.bank[m.From] -= fallow.Credits(m.Amount)
			w.bank[m.To] += fallow.Credits(m.Amount)
		}
	}
	w.log = append(w.log, effects...)
	if broken := w.books.Invariants(w.bank[settle.EscrowPool]); broken != nil {
		w.t.Fatalf("after %T at %d: %v", effects, w.at.Time, broken)
	}
	return err
}

func (w *world) must(effects []settle.Effect, err error) {
	w.t.Helper()
	if w.do(effects, err) != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tick(ms int) {
	w.at.Height++
	w.at.Time += fallow.Time(ms)
}

func (w *world) endBlock() {
	w.t.Helper()
	w.must(w.books.EndBlock(w.at))
}

func (w *world) deposit(tenant string, amount fallow.Credits) {
	w.t.Helper()
	w.must(w.books.Deposit(w.at, account(tenant), "", amount))
}

// offer makes a signed offer of provider to tenant; change may alter it.
func (w *world) offer(provider, tenant string, kind market.Kind, change func(*market.Offer)) market.Signed {
	w.t.Helper()
	w.seq++
	o := market.Offer{
		Demand:   fallow.Sum([]byte("demand")),
		Tenant:   account(tenant),
		Provider: account(provider),
		NodeKey:  wire.PublicKey(edKey(provider)),
		KeyEpoch: 1,
		Kind:     kind,
		Workload: fallow.Sum([]byte("workload")),
		Terms: market.Terms{
			GasPrice:      fallow.PicoOf(1_000_000),
			SecondPrice:   fallow.PicoOf(3_000_000_000), // 3,000 ucredit a second
			DiskPrice:     fallow.PicoOf(100_000_000),   // 100 ucredit a second
			Slots:         1,
			MaxReserve:    1_000_000,
			ClaimWindowMS: 2_000,
		},
		Nonce:      market.Nonce{byte(w.seq), byte(w.seq >> 8), byte(w.seq >> 16)},
		LastHeight: w.at.Height + 20,
	}
	if change != nil {
		change(&o)
	}
	b, err := wire.EncodeOffer(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return wire.Sign(edKey(provider), market.SignsOffer, chainID, b)
}

func entry(s market.Signed, reserve fallow.Credits) settle.OpenEntry {
	return settle.OpenEntry{Offer: s, SessionKey: wire.PublicKey(edKey("session")), Reserve: reserve}
}

// open opens one lease and returns its result.
func (w *world) open(signer, tenant string, e settle.OpenEntry) settle.Result {
	w.t.Helper()
	results, effects, err := w.books.OpenLeases(w.at, account(signer), account(tenant), []settle.OpenEntry{e})
	w.must(effects, err)
	return results[0]
}

func (w *world) voucher(lease fallow.LeaseID, amount fallow.Pico, n uint32) market.Signed {
	w.t.Helper()
	b, err := wire.EncodeVoucher(receipt.Voucher{Lease: lease, Amount: amount, Receipts: n, ReceiptsRoot: fallow.Sum([]byte{byte(n)})})
	if err != nil {
		w.t.Fatal(err)
	}
	return wire.Sign(edKey("session"), market.SignsVoucher, chainID, b)
}

func (w *world) release(provider string, lease fallow.LeaseID, amount fallow.Pico) market.Signed {
	w.t.Helper()
	b, err := wire.EncodeRelease(receipt.Release{Lease: lease, Amount: amount})
	if err != nil {
		w.t.Fatal(err)
	}
	return wire.Sign(edKey(provider), market.SignsRelease, chainID, b)
}

func (w *world) horizon(lease fallow.LeaseID, sequence uint64, until fallow.Time) market.Signed {
	w.t.Helper()
	b, err := wire.EncodeHorizon(receipt.Horizon{Lease: lease, Sequence: sequence, Until: until})
	if err != nil {
		w.t.Fatal(err)
	}
	return wire.Sign(edKey("session"), market.SignsHorizon, chainID, b)
}

// one runs an operation of one entry.
func (w *world) one(results []settle.Result, effects []settle.Effect, err error) settle.Result {
	w.t.Helper()
	w.must(effects, err)
	if len(results) != 1 {
		w.t.Fatalf("%d results", len(results))
	}
	return results[0]
}

func (w *world) redeem(provider string, s market.Signed) settle.Result {
	w.t.Helper()
	return w.one(w.books.Redeem(w.at, account(provider), []market.Signed{s}, nil))
}

func (w *world) redeemService(provider string, id fallow.LeaseID) settle.Result {
	w.t.Helper()
	return w.one(w.books.Redeem(w.at, account(provider), nil, []fallow.LeaseID{id}))
}

func (w *world) start(s market.Signed) settle.Result {
	w.t.Helper()
	return w.one(w.books.Start(w.at, []market.Signed{s}))
}

func (w *world) close(signer string, id fallow.LeaseID, reason fallow.Reason) settle.Result {
	w.t.Helper()
	return w.one(w.books.Close(w.at, account(signer), []fallow.LeaseID{id}, reason))
}

func (w *world) lease(id fallow.LeaseID) settle.Lease {
	w.t.Helper()
	l, ok, err := w.books.Lease(w.at, id)
	if err != nil || !ok {
		w.t.Fatalf("lease %d: %v %v", id, ok, err)
	}
	return l
}

func (w *world) account(tenant string) settle.View {
	w.t.Helper()
	v, ok, err := w.books.Account(w.at, account(tenant))
	if err != nil || !ok {
		w.t.Fatalf("account %s: %v %v", tenant, ok, err)
	}
	return v
}

// worth is what a provider has or will have once its payouts mature.
func (w *world) worth(provider string) fallow.Credits {
	w.t.Helper()
	sum := w.bank[account(provider)]
	payouts, err := w.books.Payouts(account(provider), 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range payouts {
		sum += p.Amount
	}
	return sum
}
