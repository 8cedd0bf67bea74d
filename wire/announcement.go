package wire

import (
	"errors"
	"fmt"
	"strings"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	marketv1 "fallow.network/api/market"
	"fallow.network/market"
)

// Bounds of an announcement, in numbers of its lists.
const (
	MaxAnnouncedClasses    = 16 // and profiles
	MaxAnnouncedAttributes = 64
	MaxAnnouncedAddrs      = 32
)

// Announced is what a node says of itself at a hub, checked.
type Announced struct {
	Provider fallow.Account
	Region   string
	Classes  []string
	Profiles []string
	Attrs    []market.Attribute
	Slot     market.Resources
	// Told is the announcement with nothing in it that was not checked.
	Told *hubv1.Announcement
}

// Announcement checks what the node with key from says of itself; owner gives
// the key that a multiaddr ends in. It doesn't look at the protocol's version.
func Announcement(from fallow.Key, a *hubv1.Announcement, owner func(addr string) (fallow.Key, error)) (Announced, error) {
	var o Announced
	if string(a.GetNodeKey()) != string(from[:]) {
		return o, errors.New("announcement: node_key is not the key that the connection proves")
	}
	if len(a.GetClasses()) == 0 || len(a.GetClasses()) > MaxAnnouncedClasses || len(a.GetProfiles()) > MaxAnnouncedClasses ||
		len(a.GetAttributes()) > MaxAnnouncedAttributes || len(a.GetAddrs()) > MaxAnnouncedAddrs {
		return o, fmt.Errorf("announcement: want 1 to %d classes, at most %d profiles, %d attributes and %d addresses",
			MaxAnnouncedClasses, MaxAnnouncedClasses, MaxAnnouncedAttributes, MaxAnnouncedAddrs)
	}
	if err := CheckAccount(a.GetProvider()); err != nil {
		return o, fmt.Errorf("announcement: %w", err)
	}
	slot := a.GetLargestSlot()
	o = Announced{
		Provider: fallow.Account(a.GetProvider()), Region: a.GetRegion(),
		Classes: a.GetClasses(), Profiles: a.GetProfiles(),
		Slot: market.Resources{
			MilliCPU: slot.GetMilliCpu(), Memory: slot.GetMemoryBytes(), Disk: slot.GetDiskBytes(),
			GPUs: slot.GetGpus(), GPUModel: slot.GetGpuModel(),
		},
	}
	if err := o.Slot.Check(); err != nil {
		return o, fmt.Errorf("announcement: largest_slot: %w", err)
	}
	for _, t := range a.GetAttributes() {
		attr := market.Attribute{Key: t.GetKey(), Value: t.GetValue()}
		if err := attr.Check(); err != nil {
			return o, fmt.Errorf("announcement: %w", err)
		}
		o.Attrs = append(o.Attrs, attr)
	}
	for _, word := range append(append([]string{o.Region}, o.Classes...), o.Profiles...) {
		if len(word) > market.MaxName || strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return o, fmt.Errorf("announcement: %.40q: want at most %d printable characters", word, market.MaxName)
		}
	}
	for _, addr := range a.GetAddrs() {
		// An address of another would send tenants to a victim.
		if k, err := owner(addr); err != nil || k != from {
			return o, fmt.Errorf("announcement: address %.80q is not this node's", addr)
		}
	}
	o.Told = &hubv1.Announcement{
		Provider: a.GetProvider(), NodeKey: from[:], Classes: o.Classes, Profiles: o.Profiles,
		Region: o.Region, Addrs: a.GetAddrs(), Protocol: a.GetProtocol(),
	}
	if slot != nil {
		// Not the message itself, which may hold what nobody looked at.
		o.Told.LargestSlot = &marketv1.Resources{MilliCpu: o.Slot.MilliCPU, MemoryBytes: o.Slot.Memory, DiskBytes: o.Slot.Disk, Gpus: o.Slot.GPUs, GpuModel: o.Slot.GPUModel}
	}
	for _, t := range o.Attrs {
		o.Told.Attributes = append(o.Told.Attributes, &marketv1.Attribute{Key: t.Key, Value: t.Value})
	}
	return o, nil
}
