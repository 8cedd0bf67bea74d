package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"fallow.network"
	"fallow.network/keys"
	"fallow.network/ledger"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/spec"
	"fallow.network/wire"
)

// benchChain is the ledger that the figures of the ledger come from: one
// validator alone, with blocks of a second and nobody but this program to ask
// anything of it.
const benchChain = "fallow-bench-1"

// bare is such a ledger in a process of its own.
type bare struct {
	home    string
	process *exec.Cmd
	grpc    string
	rpc     string
	pprof   string // address of its profiles; empty when none are wanted
	// tenant pays for all leases; lessors are their providers.
	tenant  *keys.Secret
	lessors []*lessor
	tenants *ledger.Client // the tenant's connection
	others  *ledger.Client // the providers', which share one
	sender  *ledger.Sender // of the tenant
}

// lessor is a provider of one machine that signs whatever it is asked for.
type lessor struct {
	owner  *keys.Secret
	node   ed25519.PrivateKey
	epoch  uint64
	sender *ledger.Sender
}

// startBare founds a ledger whose tenant has a full escrow and whose providers
// are bonded.
func startBare(ctx context.Context, providers int, profiled bool) (_ *bare, err error) {
	binary, err := filepath.Abs(filepath.Join(programs, "fallowd"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("%w; build it with: make build", err)
	}
	b := &bare{}
	if b.tenant, err = keys.NewSecret(); err != nil {
		return nil, err
	}
	const coins = "=1000000000000ufal,1000000000000ucredit"
	accounts := []string{"--account", string(b.tenant.Account()) + coins}
	for range providers {
		l := &lessor{}
		if l.owner, err = keys.NewSecret(); err != nil {
			return nil, err
		}
		if _, l.node, err = ed25519.GenerateKey(nil); err != nil {
			return nil, err
		}
		b.lessors = append(b.lessors, l)
		accounts = append(accounts, "--account", string(l.owner.Account())+coins)
	}
	if b.home, err = os.MkdirTemp("", "fallow-bench-ledger-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.end())
		}
	}()
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	b.rpc, b.grpc = ports[0], ports[1]
	args := append([]string{
		"init", "--home", b.home, "--chain-id", benchChain, "--block-time", "1s",
		"--rpc", ports[0], "--grpc", ports[1], "--p2p", ports[2], "--api", ports[3],
	}, accounts...)
	if out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("found a ledger: %w: %s", err, out)
	}
	if profiled {
		b.pprof = ports[4]
		if err := b.allowProfiles(); err != nil {
			return nil, err
		}
	}
	if err := b.start(ctx, binary); err != nil {
		return nil, err
	}
	return b, b.connect(ctx)
}

// allowProfiles makes the node serve profiles of itself.
func (b *bare) allowProfiles() error {
	path := filepath.Join(b.home, "config", "config.toml")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	const off = `pprof_laddr = ""`
	if !bytes.Contains(raw, []byte(off)) {
		return fmt.Errorf("no %s in %s", off, path)
	}
	return os.WriteFile(path, bytes.Replace(raw, []byte(off), fmt.Appendf(nil, "pprof_laddr = %q", b.pprof), 1), 0o600)
}

// profile keeps a CPU profile of the node over so long.
func (b *bare) profile(ctx context.Context, d time.Duration, file string) (err error) {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", b.pprof, max(1, int(d.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}

// transactions counts what stands in the blocks from one height to another, of
// whoever: nobody but this program sends any.
func (b *bare) transactions(ctx context.Context, from, to fallow.Height) (n int, err error) {
	for h := from; h <= to; h++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/block?height=%d", b.rpc, h), nil)
		if err != nil {
			return 0, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		var told struct {
			Result *struct {
				Block struct {
					Data struct {
						Txs []string `json:"txs"`
					} `json:"data"`
				} `json:"block"`
			} `json:"result"`
		}
		err = errors.Join(json.NewDecoder(res.Body).Decode(&told), res.Body.Close())
		if err == nil && told.Result == nil {
			err = errors.New(res.Status)
		}
		if err != nil {
			return 0, fmt.Errorf("block %d: %w", h, err)
		}
		n += len(told.Result.Block.Data.Txs)
	}
	return n, nil
}

// freePorts finds free ports of the loopback device.
func freePorts(n int) ([]string, error) {
	var (
		held      []net.Listener
		addresses []string
		err       error
	)
	for range n {
		l, listenErr := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a local socket, closed at once
		if err = listenErr; err != nil {
			break
		}
		held, addresses = append(held, l), append(addresses, l.Addr().String())
	}
	for _, l := range held {
		err = errors.Join(err, l.Close())
	}
	return addresses, err
}

func (b *bare) start(ctx context.Context, binary string) error {
	// The process outlives nothing: it dies with this one, and by end.
	b.process = exec.CommandContext(context.WithoutCancel(ctx), binary, "start", "--home", b.home, "--ready-json")
	b.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	b.process.Stderr = os.Stderr
	out, err := b.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.process.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var facts struct {
		Ready bool `json:"ready"`
	}
	if err == nil {
		err = json.Unmarshal(line, &facts)
	}
	if err == nil && !facts.Ready {
		err = errors.New("it says that it is not ready")
	}
	if err != nil {
		return fmt.Errorf("the ledger did not come up: %w: %s", err, line)
	}
	return nil
}

// connect dials the ledger, registers the providers and fills the escrow.
func (b *bare) connect(ctx context.Context) (err error) {
	config := ledger.Config{ChainID: benchChain, GRPC: []string{b.grpc}, RPC: []string{"http://" + b.rpc}}
	if b.tenants, err = ledger.Dial(ctx, config); err != nil {
		return err
	}
	if b.others, err = ledger.Dial(ctx, config); err != nil {
		return err
	}
	b.sender = b.tenants.Sender(b.tenant, ledger.Options{MaxEntries: maxEntries})
	if _, err := b.sender.Deposit(ctx, "", 500_000_000_000); err != nil {
		return err
	}
	return each(len(b.lessors), func(i int) error {
		l := b.lessors[i]
		l.sender = b.others.Sender(l.owner, ledger.Options{MaxEntries: maxEntries})
		if _, err := l.sender.Register(ctx, 100_000_000_000, ledger.Listing{
			Nodes: []ledger.Node{{Key: wire.PublicKey(l.node), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}}, Region: "here",
		}); err != nil {
			return err
		}
		p, err := b.others.Provider(ctx, l.owner.Account())
		if err == nil {
			l.epoch = p.GetNodes()[0].GetEpoch()
		}
		return err
	})
}

// end stops the process and removes its folder.
func (b *bare) end() error {
	var errs []error
	for _, c := range []*ledger.Client{b.tenants, b.others} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if b.process != nil && b.process.Process != nil {
		_ = b.process.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(20*time.Second, func() { _ = b.process.Process.Kill() })
		_ = b.process.Wait() // how it ends is of no use to anybody
		kill.Stop()
	}
	return errors.Join(append(errs, os.RemoveAll(b.home))...)
}

// offer is a firm price for one batch lease, as a provider's policy signs it.
func (b *bare) offer(l *lessor, demand fallow.Digest, last fallow.Height) (market.Signed, error) {
	o := market.Offer{
		Demand: demand, Tenant: b.tenant.Account(), Provider: l.owner.Account(), NodeKey: wire.PublicKey(l.node), KeyEpoch: l.epoch,
		Kind: market.KindBatch, Workload: fallow.Sum([]byte("work")), LastHeight: last, Profile: spec.ProfileWASM,
		Terms: market.Terms{
			GasPrice: fallow.PicoOf(1000), Slots: 1, Slot: market.Resources{MilliCPU: 1000, Memory: 1 << 28},
			LeastSpeed: 1, UnpaidCeiling: 1000, MaxReserve: 1_000_000, ClaimWindowMS: 3600_000, IdleMS: 60_000,
		},
	}
	copy(o.Nonce[:], demand[:])
	raw, err := wire.EncodeOffer(o)
	if err != nil {
		return market.Signed{}, err
	}
	return wire.Sign(l.node, market.SignsOffer, benchChain, raw), nil
}

func voucherOf(session ed25519.PrivateKey, lease fallow.LeaseID, amount fallow.Pico, root fallow.Digest, receipts uint32) (market.Signed, error) {
	raw, err := wire.EncodeVoucher(receipt.Voucher{Lease: lease, Amount: amount, ReceiptsRoot: root, Receipts: receipts})
	if err != nil {
		return market.Signed{}, err
	}
	return wire.Sign(session, market.SignsVoucher, benchChain, raw), nil
}

func (l *lessor) release(lease fallow.LeaseID, amount fallow.Pico) (market.Signed, error) {
	raw, err := wire.EncodeRelease(receipt.Release{Lease: lease, Amount: amount})
	if err != nil {
		return market.Signed{}, err
	}
	return wire.Sign(l.node, market.SignsRelease, benchChain, raw), nil
}
