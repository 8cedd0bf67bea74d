package hub

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
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
	if err := sameProtocol(a.GetProtocol()); err != nil {
		return offerer{}, err
	}
	n, err := wire.Announcement(from, a, p2p.AddrKey)
	return offerer{n.Provider, n.Region, n.Classes, n.Profiles, n.Attrs, n.Slot, n.Told}, err
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
