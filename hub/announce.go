package hub

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	marketv1 "fallow.network/api/market"
	"fallow.network/market"
	"fallow.network/p2p"
	"fallow.network/wire"
)

// offerer is a checked announcement, as matching needs it.
type offerer struct {
	provider fallow.Account
	region   string
	classes  []string
	profiles []string
	attrs    []market.Attribute
	slot     market.Resources
	told     *hubv1.Announcement // what a listing gives
}

// announced checks what the node with key from says of itself.
func announced(from fallow.Key, a *hubv1.Announcement) (offerer, error) {
	var o offerer
	if err := sameProtocol(a.GetProtocol()); err != nil {
		return o, err
	}
	if string(a.GetNodeKey()) != string(from[:]) {
		return o, errors.New("announcement: node_key is not the key that the connection proves")
	}
	if len(a.GetClasses()) == 0 || len(a.GetClasses()) > mostClasses || len(a.GetProfiles()) > mostClasses ||
		len(a.GetAttributes()) > mostAttribute || len(a.GetAddrs()) > mostAddrs {
		return o, fmt.Errorf("announcement: want 1 to %d classes, at most %d profiles, %d attributes and %d addresses",
			mostClasses, mostClasses, mostAttribute, mostAddrs)
	}
	if err := wire.CheckAccount(a.GetProvider()); err != nil {
		return o, fmt.Errorf("announcement: %w", err)
	}
	slot := a.GetLargestSlot()
	o = offerer{
		provider: fallow.Account(a.GetProvider()), region: a.GetRegion(),
		classes: a.GetClasses(), profiles: a.GetProfiles(),
		slot: market.Resources{
			MilliCPU: slot.GetMilliCpu(), Memory: slot.GetMemoryBytes(), Disk: slot.GetDiskBytes(),
			GPUs: slot.GetGpus(), GPUModel: slot.GetGpuModel(),
		},
	}
	if err := o.slot.Check(); err != nil {
		return o, fmt.Errorf("announcement: largest_slot: %w", err)
	}
	for _, t := range a.GetAttributes() {
		attr := market.Attribute{Key: t.GetKey(), Value: t.GetValue()}
		if err := attr.Check(); err != nil {
			return o, fmt.Errorf("announcement: %w", err)
		}
		o.attrs = append(o.attrs, attr)
	}
	for _, word := range append(append([]string{o.region}, o.classes...), o.profiles...) {
		if len(word) > market.MaxName || strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return o, fmt.Errorf("announcement: %.40q: want at most %d printable characters", word, market.MaxName)
		}
	}
	for _, addr := range a.GetAddrs() {
		// An address of another would send tenants to a victim.
		if k, err := p2p.AddrKey(addr); err != nil || k != from {
			return o, fmt.Errorf("announcement: address %.80q is not this node's", addr)
		}
	}
	o.told = &hubv1.Announcement{
		Provider: a.GetProvider(), NodeKey: from[:], Classes: o.classes, Profiles: o.profiles,
		Region: o.region, Addrs: a.GetAddrs(), Protocol: a.GetProtocol(),
	}
	if slot != nil {
		o.told.LargestSlot = proto.CloneOf(slot)
	}
	for _, t := range o.attrs {
		o.told.Attributes = append(o.told.Attributes, &marketv1.Attribute{Key: t.Key, Value: t.Value})
	}
	return o, nil
}

// errVersion is programs of unequal protocol versions.
var errVersion = errors.New("protocol versions differ")

// sameProtocol refuses another version and says which side to upgrade.
func sameProtocol(theirs string) error {
	if theirs == fallow.Protocol {
		return nil
	}
	what := "upgrade the older program"
	if n, ok := version(theirs); ok {
		if ours, _ := version(fallow.Protocol); n < ours {
			what = "upgrade your fallow"
		} else {
			what = "the hub is older: ask its operator to upgrade, or use another hub"
		}
	}
	return fmt.Errorf("%w: the hub speaks %s, you speak %.40q: %s", errVersion, fallow.Protocol, theirs, what)
}

func version(p string) (int, bool) {
	s, ok := strings.CutPrefix(p, "fallow/")
	if !ok || len(s) > 6 {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}
