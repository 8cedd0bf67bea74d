package market

import (
	"errors"
	"fmt"

	"fallow.network"
)

// Bounds of what comes from outside.
const (
	MaxChainID    = 64
	MaxAccount    = 90 // characters, as bech32 has it
	MaxName       = 128
	MaxText       = 1024
	MaxRegions    = 32
	MaxAttributes = 64
	MaxPlaced     = 256 // providers named in a placement
	MaxInputs     = 1024
	MaxAddrs      = 32
	MaxSlots      = 1 << 16
	MaxTasks      = 1 << 24
	MaxMilliCPU   = 1 << 24 // 16,384 cores
	MaxBytes      = 1 << 50 // 1 PiB of memory, disk or one blob
	MaxGPUs       = 1024
	MaxWindowMS   = 366 * 24 * 3600 * 1000
)

// MaxPrice bounds each price in terms: a million credits, in pico-credits.
// It keeps price times any 64-bit count within 128 bits.
var MaxPrice = fallow.PicoOf(1_000_000_000_000_000_000)

// MaxCredits bounds a reserve or a ceiling in terms: 10^12 credits.
const MaxCredits fallow.Credits = 1_000_000_000_000_000_000

// ErrMalformed is a message outside the bounds of its fields.
var ErrMalformed = errors.New("malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Check says what is out of bounds in r.
func (r Resources) Check() error {
	switch {
	case r.MilliCPU > MaxMilliCPU:
		return malformed("milli_cpu %d is above %d", r.MilliCPU, MaxMilliCPU)
	case r.Memory > MaxBytes || r.Disk > MaxBytes:
		return malformed("memory or disk is above %d bytes", uint64(MaxBytes))
	case r.GPUs > MaxGPUs:
		return malformed("gpus %d is above %d", r.GPUs, MaxGPUs)
	case r.GPUs == 0 && r.GPUModel != "":
		return malformed("a gpu model without gpus")
	}
	return checkName("gpu_model", r.GPUModel, true)
}

// Fits says whether r is within what there is.
func (r Resources) Fits(there Resources) bool {
	return r.MilliCPU <= there.MilliCPU && r.Memory <= there.Memory && r.Disk <= there.Disk &&
		r.GPUs <= there.GPUs && (r.GPUModel == "" || r.GPUModel == there.GPUModel)
}

// Check says what is out of bounds in a.
func (a Attribute) Check() error {
	if err := checkName("attribute key", a.Key, false); err != nil {
		return err
	}
	return checkName("attribute "+a.Key, a.Value, true)
}

// Check says what is out of bounds in b.
func (b Blob) Check() error {
	switch {
	case b.Digest.IsZero():
		return malformed("blob without a digest")
	case b.Size > MaxBytes:
		return malformed("blob of %d bytes is above %d", b.Size, uint64(MaxBytes))
	}
	return checkName("media_type", b.MediaType, true)
}

// Check says what is out of bounds in p.
func (p Placement) Check() error {
	if len(p.Regions) > MaxRegions || len(p.Attributes) > MaxAttributes ||
		len(p.Providers) > MaxPlaced || len(p.Excluded) > MaxPlaced {
		return malformed("placement with too many entries")
	}
	for _, r := range p.Regions {
		if err := checkName("region", r, false); err != nil {
			return err
		}
	}
	for _, a := range p.Attributes {
		if err := a.Check(); err != nil {
			return err
		}
	}
	for _, list := range [][]fallow.Account{p.Providers, p.Excluded} {
		for _, a := range list {
			if err := CheckAccount("placement", a); err != nil {
				return err
			}
		}
	}
	return nil
}

// Check says what is out of bounds in d.
func (d Demand) Check() error {
	if err := CheckAccount("tenant", d.Tenant); err != nil {
		return err
	}
	if err := checkKind(d.Kind); err != nil {
		return err
	}
	switch {
	case d.ClientKey[0] != 2 && d.ClientKey[0] != 3:
		return malformed("client key is not a compressed secp256k1 key")
	case d.SessionKey == fallow.Key{}:
		return malformed("demand without a session key")
	case d.SealingKey == SealingKey{}:
		return malformed("demand without a sealing key")
	case d.Workload.IsZero():
		return malformed("demand without a workload")
	case d.Slots == 0 || d.Slots > MaxSlots:
		return malformed("demand for %d slots: want 1 to %d", d.Slots, MaxSlots)
	case d.Tasks > MaxTasks:
		return malformed("demand of %d tasks is above %d", d.Tasks, MaxTasks)
	case d.Expires <= 0:
		return malformed("demand without an expiry")
	case len(d.Inputs) > MaxInputs:
		return malformed("demand of %d inputs is above %d", len(d.Inputs), MaxInputs)
	}
	for _, b := range d.Inputs {
		if err := b.Check(); err != nil {
			return err
		}
	}
	if err := checkName("class", string(d.Class), false); err != nil {
		return err
	}
	if err := checkName("profile", d.Profile, true); err != nil {
		return err
	}
	if err := d.Slot.Check(); err != nil {
		return err
	}
	return d.Placement.Check()
}

// Check says what is out of bounds in t.
func (t Terms) Check() error {
	prices := []struct {
		name string
		is   fallow.Pico
	}{
		{"gas_price", t.GasPrice},
		{"task_fee", t.TaskFee},
		{"second_price", t.SecondPrice},
		{"disk_price", t.DiskPrice},
	}
	for _, p := range prices {
		if p.is.Cmp(MaxPrice) > 0 {
			return malformed("%s is above a million credits", p.name)
		}
	}
	switch {
	case t.SecondPrice.Lo%1000 != 0 || t.DiskPrice.Lo%1000 != 0:
		return malformed("second_price or disk_price is no multiple of 1000 pico-credits: a millisecond must cost a whole number")
	case t.Slots == 0 || t.Slots > MaxSlots:
		return malformed("terms for %d slots: want 1 to %d", t.Slots, MaxSlots)
	case t.UnpaidCeiling > MaxCredits || t.MaxReserve > MaxCredits:
		return malformed("unpaid_ceiling or max_reserve is above %d ucredit", MaxCredits)
	case t.ClaimWindowMS > MaxWindowMS || t.IdleMS > MaxWindowMS:
		return malformed("claim_window_ms or idle_ms is above a year")
	}
	return t.Slot.Check()
}

// Check says what is out of bounds in o.
func (o Offer) Check() error {
	if err := CheckAccount("tenant", o.Tenant); err != nil {
		return err
	}
	if err := CheckAccount("provider", o.Provider); err != nil {
		return err
	}
	if err := checkKind(o.Kind); err != nil {
		return err
	}
	switch {
	case o.Demand.IsZero() || o.Workload.IsZero():
		return malformed("offer without a demand or workload")
	case o.NodeKey == fallow.Key{}:
		return malformed("offer without a node key")
	case o.KeyEpoch == 0:
		return malformed("offer without a key epoch")
	case o.LastHeight <= 0:
		return malformed("offer without a last height")
	}
	if err := checkName("profile", o.Profile, true); err != nil {
		return err
	}
	return o.Terms.Check()
}

// Check says what is out of bounds in a. The offer inside stays unread.
func (a Answer) Check() error {
	if err := CheckAccount("provider", a.Provider); err != nil {
		return err
	}
	offered := len(a.Offer.Message) > 0
	switch {
	case a.NodeKey == fallow.Key{}:
		return malformed("answer without a node key")
	case offered == (a.Reason != ""):
		return malformed("answer wants an offer or a reason, and not both")
	case len(a.Reason) > MaxName || len(a.Detail) > MaxText:
		return malformed("answer with a reason or detail too long")
	case len(a.Addrs) > MaxAddrs || len(a.Has) > MaxInputs:
		return malformed("answer with too many addresses or inputs")
	}
	for _, s := range a.Addrs {
		if len(s) == 0 || len(s) > MaxText {
			return malformed("address of %d characters: want 1 to %d", len(s), MaxText)
		}
	}
	if err := checkName("region", a.Region, true); err != nil {
		return err
	}
	return checkName("protocol", a.Protocol, true)
}

// CheckAccount says whether a could be an account address; wire checks its
// bech32 sum as well.
func CheckAccount(what string, a fallow.Account) error {
	if len(a) == 0 || len(a) > MaxAccount {
		return malformed("%s: account of %d characters: want 1 to %d", what, len(a), MaxAccount)
	}
	for i := range len(a) {
		c := a[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return malformed("%s: account %.90q: want lower-case letters and digits", what, string(a))
		}
	}
	return nil
}

func checkKind(k Kind) error {
	if k != KindBatch && k != KindService {
		return malformed("lease kind %d: want 1 (batch) or 2 (service)", k)
	}
	return nil
}

// checkName bounds a short printable word.
func checkName(what, s string, mayBeEmpty bool) error {
	if s == "" && !mayBeEmpty {
		return malformed("%s is empty", what)
	}
	if len(s) > MaxName {
		return malformed("%s of %d characters is above %d", what, len(s), MaxName)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return malformed("%s has a control character", what)
		}
	}
	return nil
}
