package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"fallow.network"
	"fallow.network/keys"
	"fallow.network/provider"
	"fallow.network/sdk"
)

// million is how many ufal a FAL has, and how many ucredit a credit.
const million = 1_000_000

// redeemAge is how old a voucher gets before its provider redeems it: short, so
// that even one that is killed in the middle of a job has been paid for most.
const redeemAge = 15 * time.Second

// prepare writes every home that does not stand yet, and returns the network
// that they share. What stands is left as it is, so that up goes on where an
// earlier one stopped.
func (c Config) prepare(ctx context.Context, p ports) (sdk.Network, error) {
	n := sdk.Network{
		Protocol: fallow.Protocol,
		ChainID:  c.ChainID,
		RPC:      []string{fmt.Sprintf("http://127.0.0.1:%d", p.RPC)},
		GRPC:     []string{fmt.Sprintf("127.0.0.1:%d", p.GRPC)},
	}
	funds := []string{}
	account := func(name, coins string) error {
		a, err := c.makeAccount(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		funds = append(funds, string(a)+"="+coins)
		return nil
	}
	if err := account("tenant", fmt.Sprintf("%d%s,%d%s", c.Tokens*million, fallow.TokenDenom, p.Credits*million, fallow.CreditDenom)); err != nil {
		return n, err
	}
	for _, q := range c.Providers {
		if err := account(q.Name, fmt.Sprintf("%d%s", (q.Bond+100)*million, fallow.TokenDenom)); err != nil {
			return n, err
		}
	}
	for i := range c.Hubs {
		name := c.hubName(i)
		addr, err := sdk.InitHub(c.home(name), sdk.HubSettings{
			Listen: loopbackAddrs(p.Listen[name]),
			Status: fmt.Sprintf("127.0.0.1:%d", p.Status[name]),
		})
		if err != nil {
			return n, fmt.Errorf("%s: %w", name, err)
		}
		n.Hubs = append(n.Hubs, addr)
	}
	genesis, err := c.found(ctx, p, funds)
	if err != nil {
		return n, err
	}
	n.Genesis = genesis
	if err := n.Validate(); err != nil {
		return n, err
	}
	homes := []sdk.Home{sdk.Home(c.Dir), c.Tenant()}
	for i := range c.Hubs {
		homes = append(homes, c.home(c.hubName(i)))
	}
	for _, q := range c.Providers {
		homes = append(homes, c.home(q.Name))
		if _, err := sdk.InitProvider(ctx, c.home(q.Name), sdk.ProviderSettings{
			Slots: q.Slots, GasPrice: q.GasPrice, TaskFee: q.TaskFee, Region: q.Region, Bond: q.Bond,
			ClaimWindow: c.ClaimWindow, RedeemAge: redeemAge,
			Listen: loopbackAddrs(p.Listen[q.Name]),
			Status: fmt.Sprintf("127.0.0.1:%d", p.Status[q.Name]),
		}); err != nil && !errors.Is(err, provider.ErrExists) {
			return n, fmt.Errorf("%s: %w", q.Name, err)
		}
	}
	for _, h := range homes {
		if err := n.Save(h.NetworkFile()); err != nil {
			return n, err
		}
	}
	return n, nil
}

func loopbackAddrs(port int) []string {
	return []string{
		fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port),
		fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", port),
	}
}

// makeAccount gives a party a key and a drawn passphrase, or finds them.
func (c Config) makeAccount(name string) (fallow.Account, error) {
	h := c.home(name)
	if err := os.MkdirAll(string(h), 0o700); err != nil {
		return "", err
	}
	config := sdk.Default()
	config.Engine = c.Engine
	if _, err := os.Stat(h.PassphraseFile()); errors.Is(err, os.ErrNotExist) {
		if err := keys.WritePassphrase(h.PassphraseFile()); err != nil {
			return "", err
		}
	}
	ring := h.Ring(config, nil, io.Discard)
	k, err := ring.Show(config.Account)
	if err == nil {
		return k.Account, nil
	}
	// The words are not shown: a local network's money is made of nothing.
	if k, _, err = ring.Create(config.Account); err != nil {
		return "", err
	}
	return k.Account, h.Save(config)
}

// genesisFile keeps the genesis' digest beside the node's home.
func (c Config) genesisFile() string { return filepath.Join(c.Dir, "genesis.digest") }

// found makes the node's home with everyone's coins in its genesis.
func (c Config) found(ctx context.Context, p ports, funds []string) (fallow.Digest, error) {
	if b, err := os.ReadFile(c.genesisFile()); err == nil {
		return fallow.ParseDigest(string(bytes.TrimSpace(b)))
	}
	node := filepath.Join(c.Dir, "node")
	if err := os.RemoveAll(node); err != nil { // a half-made one of a crash
		return fallow.Digest{}, err
	}
	argv := []string{
		"init", "--json", "--home", node, "--chain-id", c.ChainID, "--moniker", "local",
		"--block-time", time.Duration(p.BlockTime).String(),
		"--rpc", hostPort(p.RPC), "--grpc", hostPort(p.GRPC), "--api", hostPort(p.REST), "--p2p", hostPort(p.Peer), "--metrics", hostPort(p.Metrics),
		"--check-window", time.Duration(p.CheckWindow).String(), "--grace", c.Grace.String(), "--unbonding", c.Unbonding.String(),
	}
	for _, f := range funds {
		argv = append(argv, "--account", f)
	}
	cmd := exec.CommandContext(ctx, c.Node, argv...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return fallow.Digest{}, fmt.Errorf("fallowd init: %w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	var facts struct {
		Genesis fallow.Digest `json:"genesis_hash"`
	}
	if err := json.Unmarshal(out.Bytes(), &facts); err != nil {
		return fallow.Digest{}, fmt.Errorf("fallowd init: %w", err)
	}
	return facts.Genesis, writeFile(c.genesisFile(), []byte(facts.Genesis.String()+"\n"))
}

func hostPort(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
