package provider

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	nodev1 "fallow.network/api/node"
	"fallow.network/api/node/nodev1connect"
	"fallow.network/blob"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/spec"
	"fallow.network/wire"
)

// tenant is the other side of one demand.
type tenant struct {
	w       *world
	account fallow.Account
	secret  []byte
	session ed25519.PrivateKey
	client  *http.Client
	lease   fallow.LeaseID
	offer   market.Offer
	module  []byte
}

func (w *world) tenant(seed string, funds fallow.Credits) *tenant {
	w.t.Helper()
	t := &tenant{w: w, secret: secret(seed), account: accountOf(seed), session: ed25519.NewKeyFromSeed(secret(seed + " session")), module: []byte("\x00asm module")}
	t.client = newCaller(wire.PublicKey(t.session))
	w.ledger.set(func(f *fakeLedger) { e := f.escrows[t.account]; e.Free = funds.Pico(); f.escrows[t.account] = e })
	return t
}

var demands struct {
	sync.Mutex
	n uint64
}

// demand makes a signed demand and the key to its answer.
func (t *tenant) demand(edit func(*market.Demand)) (market.Signed, func(*nodev1.AskResponse) market.Answer) {
	t.w.t.Helper()
	demands.Lock()
	demands.n++
	n := demands.n
	demands.Unlock()
	key, sealing, err := wire.NewSealingKey()
	if err != nil {
		t.w.t.Fatal(err)
	}
	client, err := wire.ClientKey(t.secret)
	if err != nil {
		t.w.t.Fatal(err)
	}
	d := market.Demand{
		Tenant: t.account, ClientKey: client, SessionKey: wire.PublicKey(t.session), SealingKey: sealing,
		Kind: market.KindBatch, Class: fallow.ClassWASM, Profile: spec.ProfileWASM, Slots: 2, Workload: fallow.Sum([]byte("salted")),
		Expires: fallow.Time(time.Now().Add(time.Minute).UnixMilli()), Seconds: 60, Tasks: 10,
		Inputs: []market.Blob{{Digest: fallow.Sum(t.module), Size: uint64(len(t.module))}},
	}
	binary.BigEndian.PutUint64(d.Nonce[:], n)
	if edit != nil {
		edit(&d)
	}
	b, err := wire.EncodeDemand(d)
	if err != nil {
		t.w.t.Fatal(err)
	}
	s, err := wire.SignDemand(t.secret, testChain, b)
	if err != nil {
		t.w.t.Fatal(err)
	}
	return s, func(r *nodev1.AskResponse) market.Answer {
		a, err := wire.OpenAnswer(key, s.ID(), r.GetAnswer())
		if err != nil {
			t.w.t.Fatal(err)
		}
		return a
	}
}

// ask puts a demand to the provider directly.
func (t *tenant) ask(edit func(*market.Demand)) market.Answer {
	t.w.t.Helper()
	s, open := t.demand(edit)
	return open(t.askSigned(s))
}

func (t *tenant) askSigned(s market.Signed) *nodev1.AskResponse {
	t.w.t.Helper()
	r, err := nodev1connect.NewNodeServiceClient(t.client, t.w.url).Ask(t.w.t.Context(), connect.NewRequest(&nodev1.AskRequest{Demand: wire.ToSigned(s), Protocol: fallow.Protocol}))
	if err != nil {
		t.w.t.Fatal(err)
	}
	return r.Msg
}

// rent asks, opens a lease from the offer and brings the module.
func (t *tenant) rent(reserve fallow.Credits, edit func(*market.Demand)) {
	t.w.t.Helper()
	a := t.ask(edit)
	if a.Reason != "" {
		t.w.t.Fatalf("no offer: %s %s", a.Reason, a.Detail)
	}
	var err error
	if t.offer, err = wire.OpenOffer(testChain, a.Offer); err != nil {
		t.w.t.Fatal(err)
	}
	if t.lease, err = t.w.ledger.open(a.Offer, wire.PublicKey(t.session), reserve); err != nil {
		t.w.t.Fatal(err)
	}
}

// work is a work stream of the tenant.
type work struct {
	t      *tenant
	stream *connect.BidiStreamForClient[nodev1.WorkRequest, nodev1.WorkResponse]
	in     chan *nodev1.WorkResponse
	err    error // set before in is closed
	cancel context.CancelFunc

	receipts []receipt.Receipt
	signed   []market.Signed
	inline   map[uint32][][]byte
	charged  fallow.Pico
	hello    *nodev1.Hello
}

func (t *tenant) connect(have ...uint32) *work {
	t.w.t.Helper()
	ctx, cancel := context.WithCancel(t.w.t.Context())
	s := nodev1connect.NewNodeServiceClient(t.client, t.w.url).Work(ctx)
	k := &work{t: t, stream: s, in: make(chan *nodev1.WorkResponse, 4096), cancel: cancel, inline: map[uint32][][]byte{}}
	// What fails here shows when receiving.
	_ = s.Send(&nodev1.WorkRequest{Lease: uint64(t.lease), Protocol: fallow.Protocol, HaveReceipts: have})
	go func() {
		defer close(k.in)
		for {
			m, err := s.Receive()
			if err != nil {
				k.err = err
				return
			}
			k.in <- m
		}
	}()
	return k
}

func (k *work) close() {
	k.cancel()
	_ = k.stream.CloseRequest() // HTTP/2 hears of the cancellation only then
	for range k.in {
	}
	_ = k.stream.CloseResponse()
}

func (k *work) send(m *nodev1.WorkRequest) {
	k.t.w.t.Helper()
	if err := k.stream.Send(m); err != nil {
		k.t.w.t.Fatalf("send: %v", err)
	}
}

// next is the next message for which pick holds; others are taken in as a
// tenant would.
func (k *work) next(what string, pick func(*nodev1.WorkResponse) bool) *nodev1.WorkResponse {
	k.t.w.t.Helper()
	timeout := time.After(15 * time.Second)
	for {
		select {
		case m, ok := <-k.in:
			if !ok {
				k.t.w.t.Fatalf("the stream ended before %s: %v", what, k.err)
			}
			k.take(m)
			if pick(m) {
				return m
			}
		case <-timeout:
			k.t.w.t.Fatalf("not in time: %s", what)
		}
	}
}

func (k *work) take(m *nodev1.WorkResponse) {
	k.t.w.t.Helper()
	if m.GetHello() != nil {
		k.hello = m.GetHello()
	}
	for _, b := range m.GetWants() {
		if err := k.t.put(k.t.module); err != nil {
			k.t.w.t.Fatalf("put %x: %v", b.GetDigest(), err)
		}
	}
	if r := m.GetReceipt(); r != nil {
		s, err := wire.Signed(r.GetReceipt())
		if err != nil {
			k.t.w.t.Fatal(err)
		}
		v, err := wire.OpenReceipt(testChain, k.t.offer.NodeKey, s)
		if err != nil {
			k.t.w.t.Fatal(err)
		}
		k.receipts = append(k.receipts, v)
		k.signed = append(k.signed, s)
		k.inline[v.Task] = r.GetInline()
		if k.charged, err = k.charged.Add(v.Charge); err != nil {
			k.t.w.t.Fatal(err)
		}
	}
}

// ended waits for the stream's end and gives its error.
func (k *work) ended() error {
	k.t.w.t.Helper()
	timeout := time.After(15 * time.Second)
	for {
		select {
		case m, ok := <-k.in:
			if !ok {
				return k.err
			}
			k.take(m)
		case <-timeout:
			k.t.w.t.Fatal("the stream does not end")
		}
	}
}

func (k *work) task(n uint32, verb string) { k.send(&nodev1.WorkRequest{Task: k.t.task(n, 1, verb)}) }

func (t *tenant) task(n, attempt uint32, verb string) *nodev1.Task {
	w, m := fallow.Sum([]byte("workload")), fallow.Sum(t.module)
	return &nodev1.Task{
		Task: n, Attempt: attempt, Workload: w[:], Module: wire.ToBlob(market.Blob{Digest: m, Size: uint64(len(t.module))}),
		Args: []string{verb}, Limits: &nodev1.Limits{Gas: 1e9, MemoryBytes: 1 << 20, OutputBytes: 1 << 20}, Profile: spec.ProfileWASM,
	}
}

func hasReceipt(m *nodev1.WorkResponse) bool { return m.GetReceipt() != nil }

// until waits for so many receipts in all.
func (k *work) until(n int) {
	k.t.w.t.Helper()
	for len(k.receipts) < n {
		k.next(fmt.Sprintf("receipt %d of %d", len(k.receipts)+1, n), hasReceipt)
	}
}

// voucher signs an amount over so many receipts.
func (t *tenant) voucher(lease fallow.LeaseID, amount fallow.Pico, receipts uint32) market.Signed {
	t.w.t.Helper()
	v := receipt.Voucher{Lease: lease, Amount: amount, Receipts: receipts}
	if receipts > 0 {
		v.ReceiptsRoot = fallow.Sum([]byte("root"))
	}
	b, err := wire.EncodeVoucher(v)
	if err != nil {
		t.w.t.Fatal(err)
	}
	return wire.Sign(t.session, market.SignsVoucher, testChain, b)
}

// pay signs a voucher over all receipts so far.
func (k *work) pay() {
	k.t.w.t.Helper()
	k.send(&nodev1.WorkRequest{Voucher: wire.ToSigned(k.t.voucher(k.t.lease, k.charged, uint32(len(k.receipts))))})
}

func (t *tenant) put(b []byte) error {
	status, text, err := t.request(http.MethodPut, fallow.Sum(b), b)
	if err == nil && status != http.StatusCreated && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, text)
	}
	return err
}

func (t *tenant) request(method string, d fallow.Digest, body []byte) (int, []byte, error) {
	r, err := http.NewRequestWithContext(t.w.t.Context(), method, t.w.url+blob.PathPrefix+d.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	res, err := t.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, b, err
}
