package client

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fallow.network"
	"fallow.network/api/node/nodev1connect"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/wire"
)

const testChain = "test-1"

// testIdentity is a client key made of a seed.
type testIdentity struct{ secret []byte }

func newTestIdentity(seed string) testIdentity {
	s := sha256.Sum256([]byte(seed))
	return testIdentity{s[:]}
}

func (i testIdentity) Public() []byte {
	k, err := wire.ClientKey(i.secret)
	if err != nil {
		panic(err)
	}
	return k[:]
}

func (i testIdentity) Sign(doc []byte) ([]byte, error) {
	// wire signs a demand's message; what is asked for here is the signature
	// over sha256(doc), which is the same thing.
	return signDoc(i.secret, doc)
}

func (i testIdentity) Session(nonce []byte) (ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, i.secret, nonce, "fallow/session/v1", ed25519.SeedSize)
	return ed25519.NewKeyFromSeed(seed), err
}

func (i testIdentity) account() fallow.Account {
	k, _ := wire.ClientKey(i.secret)
	return wire.Address(k)
}

// testNet is a network where names are HTTP servers on loopback.
type testNet struct {
	mu   sync.Mutex
	urls map[fallow.Key]string
	// frozen cuts everybody off.
	frozen *atomic.Bool
}

func (n *testNet) cut() bool { return n.frozen != nil && n.frozen.Load() }

func (n *testNet) at(k fallow.Key, url string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.urls[k] = url
}

func (n *testNet) url(k fallow.Key) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.urls[k]
}

func (n *testNet) Join(_ context.Context, identity ed25519.PrivateKey) (Peer, error) {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	t := &http.Transport{Protocols: p, DisableCompression: true, HTTP2: &http.HTTP2Config{}}
	return &testPeer{net: n, client: &http.Client{Transport: asPeer{t, wire.PublicKey(identity), n}}, transport: t}, nil
}

type testPeer struct {
	net       *testNet
	client    *http.Client
	transport *http.Transport
}

// asPeer tells the server who asks, which libp2p would prove.
type asPeer struct {
	next http.RoundTripper
	key  fallow.Key
	net  *testNet
}

func (a asPeer) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.net.cut() {
		return nil, errCrash
	}
	r = r.Clone(r.Context())
	r.Header.Set("Test-Peer", a.key.String())
	return a.next.RoundTrip(r)
}

func (p *testPeer) Connect(ctx context.Context, addrs []string) (fallow.Key, error) {
	if p.net.cut() {
		return fallow.Key{}, errCrash
	}
	var k fallow.Key
	if len(addrs) == 0 {
		return k, errors.New("no addresses")
	}
	if err := k.UnmarshalText([]byte(addrs[0])); err != nil {
		return k, err
	}
	url := p.net.url(k)
	if url == "" {
		return k, fmt.Errorf("no route to %s", k.Short())
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return k, err
	}
	return k, c.Close()
}

func (p *testPeer) HTTPClient() *http.Client { return p.client }
func (p *testPeer) BulkClient() *http.Client { return p.client }
func (p *testPeer) URL(k fallow.Key) string  { return p.net.url(k) }
func (p *testPeer) Close() error             { p.transport.CloseIdleConnections(); return nil }
func peerOf(h http.Header) (k fallow.Key) {
	_ = k.UnmarshalText([]byte(h.Get("Test-Peer")))
	return k
}

func listen(t *testing.T, h http.Handler, addr string) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	if addr != "" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Listener.Close()
		s.Listener = l
	}
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	s.Config.Protocols = p
	s.Start()
	return s
}

// testLedger keeps leases and escrow in memory, and can be away.
type testLedger struct {
	mu      sync.Mutex
	free    fallow.Credits
	next    fallow.LeaseID
	leases  map[fallow.LeaseID]*testLease
	used    map[fallow.Digest]bool
	listing []Listing
	bonds   map[fallow.Account]Standing
	skip    map[fallow.Account]fallow.Reason
	began   time.Time
	txs     int
	calls   map[string]int
	loses   bool // what it is handed
	// fault runs before a call and after its effect; an error is what the
	// caller gets.
	fault func(call string, after bool) error
	// sent sees what is to be opened, whatever becomes of it.
	sent func([]OpenEntry)
}

type testLease struct {
	Lease
	open   bool
	reason fallow.Reason
	offer  market.Offer
}

func newTestLedger(free fallow.Credits) *testLedger {
	return &testLedger{
		began: time.Now(), free: free, next: 1, leases: map[fallow.LeaseID]*testLease{}, used: map[fallow.Digest]bool{},
		bonds: map[fallow.Account]Standing{}, skip: map[fallow.Account]fallow.Reason{}, calls: map[string]int{},
	}
}

func (l *testLedger) do(call string, f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[call]++
	if l.fault != nil {
		if err := l.fault(call, false); err != nil {
			return err
		}
	}
	if err := f(); err != nil {
		return err
	}
	if l.fault != nil {
		return l.fault(call, true)
	}
	return nil
}

func (l *testLedger) tx(bytes uint64) Transaction {
	l.txs++
	return Transaction{Hash: fmt.Sprintf("TX%d", l.txs), Height: fallow.Height(l.txs), Bytes: bytes, Fee: 100, GasUsed: 1000}
}

func (l *testLedger) Open(_ context.Context, _ fallow.Account, entries []OpenEntry) (out []OpenResult, txs []Transaction, err error) {
	if l.sent != nil {
		l.sent(entries)
	}
	err = l.do("open", func() error {
		for _, e := range entries {
			o, err := wire.OpenOffer(testChain, e.Offer)
			if err != nil {
				return err
			}
			switch id := e.Offer.ID(); {
			case l.used[id]:
				out = append(out, OpenResult{Reason: fallow.ReasonOfferUsed})
			case l.skip[o.Provider] != "":
				out = append(out, OpenResult{Reason: l.skip[o.Provider]})
			case e.Reserve > l.free:
				out = append(out, OpenResult{Reason: fallow.ReasonFunds})
			case e.Reserve == 0 || e.Reserve > o.Terms.MaxReserve:
				out = append(out, OpenResult{Reason: fallow.ReasonReserve})
			default:
				l.used[id] = true
				l.free -= e.Reserve
				lease := &testLease{open: true, offer: o, Lease: Lease{
					ID: l.next, Provider: o.Provider, NodeKey: o.NodeKey, SessionKey: e.SessionKey, Offer: id, Reserve: e.Reserve,
					Opened: fallow.Time(time.Now().UnixMilli()),
				}}
				l.leases[l.next] = lease
				out = append(out, OpenResult{Lease: l.next})
				l.next++
			}
		}
		txs = []Transaction{l.tx(500)}
		return nil
	})
	return out, txs, err
}

func (l *testLedger) Raise(_ context.Context, id fallow.LeaseID, reserve fallow.Credits) (tx Transaction, err error) {
	err = l.do("raise", func() error {
		lease := l.leases[id]
		if lease == nil || !lease.open || reserve <= lease.Reserve || reserve-lease.Reserve > l.free || reserve > lease.offer.Terms.MaxReserve {
			return fmt.Errorf("raise of lease %d to %d refused", id, reserve)
		}
		l.free -= reserve - lease.Reserve
		lease.Reserve = reserve
		tx = l.tx(200)
		return nil
	})
	return tx, err
}

func (l *testLedger) Close(_ context.Context, ids []fallow.LeaseID, _ []market.Signed, reason fallow.Reason) (txs []Transaction, err error) {
	err = l.do("close", func() error {
		for _, id := range ids {
			lease := l.leases[id]
			if lease == nil {
				return fmt.Errorf("no lease %d", id)
			}
			if lease.open {
				lease.open, lease.reason = false, reason
			}
		}
		txs = []Transaction{l.tx(300)}
		return nil
	})
	return txs, err
}

func (l *testLedger) Hand(_ context.Context, ids []fallow.LeaseID, releases []market.Signed, reason fallow.Reason) (tx Transaction, err error) {
	err = l.do("hand", func() error {
		if len(releases) != len(ids) {
			return fmt.Errorf("%d releases of %d leases", len(releases), len(ids))
		}
		tx = l.tx(300)
		tx.Height, tx.GasUsed = 0, 0
		for _, id := range ids {
			if lease := l.leases[id]; lease.open && !l.loses {
				lease.open, lease.reason = false, reason
			}
		}
		return nil
	})
	return tx, err
}

// height moves with transactions, and by itself.
func (l *testLedger) height() fallow.Height {
	return fallow.Height(100+l.txs) + fallow.Height(time.Since(l.began)/(200*time.Millisecond))
}

func (l *testLedger) Escrow(context.Context, fallow.Account) (e Escrow, err error) {
	err = l.do("escrow", func() error {
		e = Escrow{Free: l.free.Pico(), Height: l.height(), Time: fallow.Time(time.Now().UnixMilli())}
		return nil
	})
	return e, err
}

func (l *testLedger) Leases(context.Context, fallow.Account) (out []Lease, err error) {
	err = l.do("leases", func() error {
		for _, lease := range l.leases {
			if lease.open {
				out = append(out, lease.Lease)
			}
		}
		return nil
	})
	return out, err
}

func (l *testLedger) Providers(_ context.Context, limit int) (out []Listing, err error) {
	err = l.do("providers", func() error {
		out = append(out, l.listing[:min(limit, len(l.listing))]...)
		return nil
	})
	return out, err
}

func (l *testLedger) Standing(_ context.Context, p fallow.Account) (s Standing, err error) {
	err = l.do("standing", func() error { s = l.bonds[p]; return nil })
	return s, err
}

func (l *testLedger) get(id fallow.LeaseID) testLease {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lease := l.leases[id]; lease != nil {
		return *lease
	}
	return testLease{}
}

// openLeases is how many are open.
func (l *testLedger) openLeases() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lease := range l.leases {
		if lease.open {
			n++
		}
	}
	return n
}

// guest is what the tests' module does: a few files made from the task.
func guest(t receipt.Task) (files map[string][]byte, gas fallow.Gas) {
	sum := fallow.Sum([]byte(strings.Join(t.Args, " ") + string(t.Seed)))
	files = map[string][]byte{
		"out.txt": []byte("result of " + strings.Join(t.Args, " ") + " " + sum.String()),
		"stdout":  []byte("hello\n"),
		"stderr":  {},
	}
	if len(t.Args) > 2 && t.Args[2] == "large" {
		files["large.bin"] = []byte(strings.Repeat(sum.String(), 20_000))
	}
	return files, fallow.Gas(1_000_000 + uint64(sum[0])*1000)
}

func outputsOf(files map[string][]byte) (out []receipt.Output) {
	for _, name := range []string{"large.bin", "out.txt", "stderr", "stdout"} {
		if b, ok := files[name]; ok {
			out = append(out, receipt.Output{Path: name, Digest: fallow.Sum(b), Size: uint64(len(b))})
		}
	}
	return out
}

// testMachine is this machine's runner.
type testMachine struct {
	mu   sync.Mutex
	runs int
	// broken gives wrong results.
	broken bool
}

func (m *testMachine) Run(_ context.Context, t receipt.Task, blobs Blobs, _ time.Duration) (Result, error) {
	m.mu.Lock()
	m.runs++
	broken := m.broken
	m.mu.Unlock()
	if _, err := blobs.Path(t.Module); err != nil {
		return Result{}, err
	}
	files, gas := guest(t)
	if broken {
		files["out.txt"] = []byte("a bit flipped")
	}
	return Result{Outputs: outputsOf(files), Gas: gas, Outcome: receipt.Exited, Took: time.Millisecond}, nil
}

func (m *testMachine) Bare(context.Context, receipt.Task, Blobs) (time.Duration, error) {
	return 2 * time.Millisecond, nil
}

func (m *testMachine) Cores() int { return 2 }

var _ nodev1connect.NodeServiceHandler = (*testProvider)(nil)
