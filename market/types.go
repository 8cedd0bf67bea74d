package market

import (
	"crypto/ed25519"

	"fallow.network"
)

// Kind is what a lease is for.
type Kind uint32

// Kinds of leases.
const (
	KindBatch   Kind = 1 // tasks, paid by vouchers
	KindService Kind = 2 // a replica that stays up, paid by the second
)

// String is the kind in one word.
func (k Kind) String() string {
	switch k {
	case KindBatch:
		return "batch"
	case KindService:
		return "service"
	default:
		return "unknown"
	}
}

// Kinds of signed messages, as fallow.SignedBytes takes them.
const (
	SignsDemand  = "demand"
	SignsOffer   = "offer"
	SignsReceipt = "receipt"
	SignsVoucher = "voucher"
	SignsHorizon = "horizon"
	SignsRelease = "release"
)

// ClientKey is a compressed secp256k1 public key that signs demands.
type ClientKey [33]byte

// SealingKey is an X25519 public key that answers are sealed to.
type SealingKey [32]byte

// Nonce makes a message unlike any other.
type Nonce [16]byte

// Signed is a message with a signature over fallow.SignedBytes of it.
type Signed struct {
	Message   []byte
	Signature []byte
}

// ID names the message: the digest of its bytes as received.
func (s Signed) ID() fallow.Digest { return fallow.Sum(s.Message) }

// VerifyKey says whether signature is by the Ed25519 key over a message of
// this kind on this chain. Demands are signed by secp256k1 keys instead: see
// wire.VerifyDemand.
func VerifyKey(chainID, kind string, key fallow.Key, message, signature []byte) bool {
	if len(signature) != ed25519.SignatureSize || len(chainID) > MaxChainID {
		return false
	}
	return ed25519.Verify(key[:], fallow.SignedBytes(kind, chainID, message), signature)
}

// Resources is what one slot (one task at a time, or one replica) needs or
// gives.
type Resources struct {
	MilliCPU uint32 // thousandths of a core
	Memory   uint64 // bytes
	Disk     uint64 // bytes
	GPUs     uint32
	GPUModel string
}

// Attribute is a property that a provider claims and a tenant may ask for.
type Attribute struct{ Key, Value string }

// Blob describes content, as OCI has it.
type Blob struct {
	Digest    fallow.Digest
	Size      uint64 // bytes
	MediaType string
}

// Placement limits where work may go. Empty lists mean anywhere.
type Placement struct {
	Regions    []string
	Attributes []Attribute
	Providers  []fallow.Account
	Excluded   []fallow.Account
}

// Demand is a tenant's question to providers.
type Demand struct {
	Tenant     fallow.Account
	ClientKey  ClientKey
	SessionKey fallow.Key
	SealingKey SealingKey
	Nonce      Nonce
	Kind       Kind
	Class      fallow.Class
	Profile    string // run profile that results are compared under
	Slot       Resources
	Slots      uint32 // slots that could be used at once
	Placement  Placement
	Workload   fallow.Digest // salted commitment
	Inputs     []Blob
	Expires    fallow.Time
	Seconds    uint32 // estimate of how long a slot is wanted
	Tasks      uint32 // units of work
}

// Terms are what a provider asks and promises. Prices a second are multiples of
// 1,000 pico-credits, so that streams are exact to the millisecond.
type Terms struct {
	GasPrice      fallow.Pico // for 1,000,000 gas
	TaskFee       fallow.Pico // for each task accepted
	SecondPrice   fallow.Pico // services: a second of one lease
	DiskPrice     fallow.Pico // services: a second of the disk kept while paused
	Slots         uint32      // tasks at once
	Slot          Resources
	LeastSpeed    uint64         // gas a second of one slot
	UnpaidCeiling fallow.Credits // receipts without a voucher after which work waits
	MaxReserve    fallow.Credits // largest reserve that the offer opens with or is raised to
	ClaimWindowMS uint64         // after close, in which vouchers are redeemed
	IdleMS        uint64         // without work or word, after which the provider may close
}

// Offer is a provider's firm price.
type Offer struct {
	Demand     fallow.Digest // of the demand's bytes
	Tenant     fallow.Account
	Provider   fallow.Account
	NodeKey    fallow.Key
	KeyEpoch   uint64
	Kind       Kind
	Workload   fallow.Digest // the demand's commitment
	Terms      Terms
	Nonce      Nonce
	LastHeight fallow.Height // last block that it opens a lease in
	Profile    string
}

// Answer is what comes back for a demand: an offer, or the reason there is
// none.
type Answer struct {
	Provider fallow.Account
	NodeKey  fallow.Key
	Offer    Signed // empty when there is a Reason
	Reason   fallow.Reason
	Detail   string
	Addrs    []string        // multiaddrs, relayed ones included
	Has      []fallow.Digest // inputs that are there already
	Region   string
	Protocol string
}
