package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"fallow.network/chain/app"
)

// findFallow finds the program that people run: $FALLOW, beside this program,
// or on PATH.
func findFallow() (string, error) {
	if p := os.Getenv("FALLOW"); p != "" {
		return exec.LookPath(p)
	}
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			if p, err := exec.LookPath(filepath.Join(filepath.Dir(self), "fallow")); err == nil {
				return p, nil
			}
		}
	}
	p, err := exec.LookPath("fallow")
	if err != nil {
		return "", errors.New("fallow, which makes the homes of hubs, providers and tenants, stands neither beside fallowd nor on PATH; name it in $FALLOW, or give --hubs 0 --providers 0 --tenants 0")
	}
	return p, nil
}

// run runs a verb of fallow on a home, and reads its facts into into.
func (t *testnet) run(ctx context.Context, home string, into any, verb ...string) error {
	cmd := exec.CommandContext(ctx, t.fallow, append([]string{"--home", home, "--json"}, verb...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("fallow %s in %s: %w: %s", verb[0], home, err, bytes.TrimSpace(errs.Bytes()))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		return fmt.Errorf("read what fallow %s says: %w", verb[0], err)
	}
	return nil
}

// hub makes the home of hub i.
func (t *testnet) hub(ctx context.Context, i int) (party, error) {
	p := party{Name: fmt.Sprintf("hub-%d", i+1)}
	p.Home = filepath.Join(t.dir, p.Name)
	ports, err := t.ports(2)
	if err != nil {
		return p, err
	}
	p.Status = join("127.0.0.1", ports[1])
	verb := []string{"hub", "init", "--status", p.Status}
	if len(t.hosts) == 0 {
		verb = append(verb, "--listen", multiaddrs("127.0.0.1", ports[0]))
	} else {
		verb = append(verb, "--open", "--listen", multiaddrs("0.0.0.0", ports[0]), "--announce", multiaddrs(t.host(t.validators+i, p.Name), ports[0]))
	}
	var made struct {
		Addr string `json:"addr"`
	}
	if err := t.run(ctx, p.Home, &made, verb...); err != nil {
		return p, err
	}
	p.Address, p.Start = made.Addr, "fallow hub start --home "+p.Home
	return p, nil
}

// multiaddrs are where a host is reached by TCP and by QUIC.
func multiaddrs(host string, port int) string {
	kind := "dns4"
	if net.ParseIP(host) != nil {
		kind = "ip4"
	}
	return fmt.Sprintf("/%s/%s/tcp/%d,/%s/%s/udp/%d/quic-v1", kind, host, port, kind, host, port)
}

// people makes providers' and tenants' accounts and puts coins for them into
// the genesis.
func (t *testnet) people(ctx context.Context, facts *testnetFacts) error {
	for _, g := range []struct {
		name         string
		count        int
		into         *[]party
		fal, credits uint64
	}{
		{"provider", t.providers, &facts.Providers, t.bond + spareTokens, 0},
		{"tenant", t.tenants, &facts.Tenants, t.tokens, t.credits},
	} {
		for i := range g.count {
			p := party{Name: fmt.Sprintf("%s-%d", g.name, i+1)}
			p.Home = filepath.Join(t.dir, p.Name)
			var made struct {
				Account string `json:"account"`
			}
			if err := t.run(ctx, p.Home, &made, "init", "--draw-passphrase"); err != nil {
				return err
			}
			p.Account = made.Account
			var coins []string
			for _, c := range []struct {
				amount uint64
				denom  string
			}{{g.credits, "ucredit"}, {g.fal, "ufal"}} {
				if c.amount > 0 {
					coins = append(coins, fmt.Sprintf("%d%s", c.amount*million, c.denom))
				}
			}
			if len(coins) > 0 {
				f, err := app.ParseFunding(p.Account + "=" + strings.Join(coins, ","))
				if err != nil {
					return fmt.Errorf("fund %s: %w", p.Name, err)
				}
				t.genesis.Accounts = append(t.genesis.Accounts, f)
			}
			*g.into = append(*g.into, p)
		}
	}
	return nil
}

// join makes every party join the network, and providers ready to lend.
func (t *testnet) join(ctx context.Context, facts *testnetFacts) error {
	for _, list := range [][]party{facts.Hubs, facts.Providers, facts.Tenants} {
		for _, p := range list {
			if err := t.run(ctx, p.Home, nil, "join", facts.NetworkFile); err != nil {
				return err
			}
		}
	}
	for i := range facts.Providers {
		p := &facts.Providers[i]
		ports, err := t.ports(2)
		if err != nil {
			return err
		}
		p.Status, p.Start = join("127.0.0.1", ports[1]), "fallow provider start --home "+p.Home
		verb := []string{"provider", "init", "--bond", fmt.Sprint(t.bond), "--status", p.Status}
		if len(t.hosts) == 0 {
			// Many on one machine: one slot each.
			verb = append(verb, "--slots", "1", "--listen", multiaddrs("127.0.0.1", ports[0]))
		} else {
			verb = append(verb, "--listen", multiaddrs("0.0.0.0", ports[0]))
		}
		if err := t.run(ctx, p.Home, nil, verb...); err != nil {
			return err
		}
	}
	return nil
}
