package market

import (
	"fmt"
	"slices"
	"strings"

	"fallow.network"
)

// list replaces p's listing by l and saves it.
func (r Registry) list(params RegistryParams, p *Provider, l Listing) error {
	if err := checkListing(params, l); err != nil {
		return err
	}
	o := fallow.NewOverlay(r.Store)
	was := p.Nodes
	for _, n := range was {
		if err := o.Delete(nodeKey(n.Key)); err != nil {
			return err
		}
	}
	p.Nodes = nil
	for _, n := range l.Nodes {
		switch owner, taken, err := r.Owner(n.Key); {
		case err != nil:
			return err
		case taken && owner != p.Owner:
			return fmt.Errorf("node %s: %w", n.Key.Short(), ErrNodeTaken)
		}
		node := Node{Key: n.Key, Addrs: n.Addrs}
		if at := slices.IndexFunc(was, func(w Node) bool { return w.Key == n.Key }); at >= 0 && !n.Rotate {
			node.Epoch = was[at].Epoch
		} else {
			p.LastEpoch++
			node.Epoch = p.LastEpoch
		}
		p.Nodes = append(p.Nodes, node)
		if err := o.Set(nodeKey(n.Key), []byte(p.Owner)); err != nil {
			return err
		}
	}
	p.Attributes, p.Region, p.Hubs = l.Attributes, l.Region, l.Hubs
	if err := r.save(o, *p); err != nil {
		return err
	}
	return o.Commit()
}

func checkListing(params RegistryParams, l Listing) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrListing}, args...)...)
	}
	switch {
	case len(l.Nodes) > int(params.MaxNodes):
		return bad("%d nodes, above %d", len(l.Nodes), params.MaxNodes)
	case len(l.Attributes) > int(params.MaxAttributes):
		return bad("%d attributes, above %d", len(l.Attributes), params.MaxAttributes)
	case len(l.Hubs) > MaxAddrs:
		return bad("%d hubs, above %d", len(l.Hubs), MaxAddrs)
	}
	if err := checkName("region", l.Region, true); err != nil {
		return bad("%w", err)
	}
	for i, a := range l.Attributes {
		if err := a.Check(); err != nil {
			return bad("%w", err)
		}
		if slices.ContainsFunc(l.Attributes[:i], func(b Attribute) bool { return a.Key == b.Key }) {
			return bad("attribute %q stands twice", a.Key)
		}
	}
	addrs := slices.Clone(l.Hubs)
	for i, n := range l.Nodes {
		switch {
		case n.Key == fallow.Key{}:
			return bad("a node without a key")
		case len(n.Addrs) > MaxAddrs:
			return bad("node %s has %d addresses, above %d", n.Key.Short(), len(n.Addrs), MaxAddrs)
		case slices.ContainsFunc(l.Nodes[:i], func(m NodeListing) bool { return n.Key == m.Key }):
			return bad("node %s stands twice", n.Key.Short())
		}
		addrs = append(addrs, n.Addrs...)
	}
	for _, a := range addrs {
		if len(a) == 0 || len(a) > 256 || strings.ContainsFunc(a, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return bad("address %.40q: want 1 to 256 printable characters", a)
		}
	}
	return nil
}
