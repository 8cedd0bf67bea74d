package wire

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
)

// Largest messages, in bytes.
const (
	MaxDemand  = 128 << 10
	MaxOffer   = 4 << 10
	MaxAnswer  = 128 << 10
	MaxReceipt = 1 << 20
	MaxVoucher = 256 // and horizons and releases
)

var (
	// ErrMalformed is bytes that are not the message they claim to be.
	ErrMalformed = errors.New("malformed message")
	// ErrSignature is a signature that does not verify.
	ErrSignature = errors.New("signature does not verify")
)

// ReasonOf is the typed reason for an error of this package.
func ReasonOf(err error) fallow.Reason {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrSignature):
		return fallow.ReasonSignature
	default:
		return fallow.ReasonMalformed
	}
}

func malformed(what string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrMalformed, what, err)
}

// unmarshal reads b into m, of at most limit bytes and without unknown fields.
func unmarshal(what string, b []byte, limit int, m proto.Message) error {
	if len(b) == 0 || len(b) > limit {
		return fmt.Errorf("%w: %s of %d bytes: want 1 to %d", ErrMalformed, what, len(b), limit)
	}
	if err := (proto.UnmarshalOptions{RecursionLimit: 16}).Unmarshal(b, m); err != nil {
		return malformed(what, err)
	}
	if err := refuseUnknown(m.ProtoReflect()); err != nil {
		return malformed(what, err)
	}
	return nil
}

// refuseUnknown fails when m or a message in it has fields that this version
// does not know.
func refuseUnknown(m protoreflect.Message) error {
	if len(m.GetUnknown()) > 0 {
		return fmt.Errorf("unknown field in %s", m.Descriptor().Name())
	}
	for _, fd := range nested(m.Descriptor()) {
		if !m.Has(fd) {
			continue
		}
		if !fd.IsList() {
			if err := refuseUnknown(m.Get(fd).Message()); err != nil {
				return err
			}
			continue
		}
		list := m.Get(fd).List()
		for i := range list.Len() {
			if err := refuseUnknown(list.Get(i).Message()); err != nil {
				return err
			}
		}
	}
	return nil
}

// holders remembers which fields of a kind of message hold messages: looking
// at all the others, too, costs as much as decoding them.
var holders sync.Map // of protoreflect.MessageDescriptor to []protoreflect.FieldDescriptor

// nested are the fields of a kind of message that hold messages.
func nested(d protoreflect.MessageDescriptor) []protoreflect.FieldDescriptor {
	if known, ok := holders.Load(d); ok {
		return known.([]protoreflect.FieldDescriptor)
	}
	var all []protoreflect.FieldDescriptor
	fields := d.Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); fd.Message() != nil {
			all = append(all, fd)
		}
	}
	holders.Store(d, all)
	return all
}

func marshal(what string, m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return b, nil
}

// reader collects the first error of a conversion, so that fields can be
// converted one a line.
type reader struct{ err error }

func (r *reader) fail(field string, err error) {
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("%s: %w", field, err)
	}
}

func (r *reader) digest(field string, b []byte) fallow.Digest {
	d, err := fallow.DigestFrom(b)
	r.fail(field, err)
	return d
}

// digestOrZero takes an absent digest as zero.
func (r *reader) digestOrZero(field string, b []byte) fallow.Digest {
	if len(b) == 0 {
		return fallow.Digest{}
	}
	return r.digest(field, b)
}

func (r *reader) key(field string, b []byte) fallow.Key {
	k, err := fallow.KeyFrom(b)
	r.fail(field, err)
	return k
}

func (r *reader) fixed(field string, to, b []byte) {
	if len(b) != len(to) {
		r.fail(field, fmt.Errorf("%d bytes: want %d", len(b), len(to)))
		return
	}
	copy(to, b)
}

func (r *reader) account(field, s string) fallow.Account {
	r.fail(field, CheckAccount(s))
	return fallow.Account(s)
}

// Decoder decodes what the ledger reads, for the rules of settle.
type Decoder struct{}

// Offer is the function Offer.
func (Decoder) Offer(b []byte) (market.Offer, error) { return Offer(b) }

// Voucher is the function Voucher.
func (Decoder) Voucher(b []byte) (receipt.Voucher, error) { return Voucher(b) }

// Horizon is the function Horizon.
func (Decoder) Horizon(b []byte) (receipt.Horizon, error) { return Horizon(b) }

// Release is the function Release.
func (Decoder) Release(b []byte) (receipt.Release, error) { return Release(b) }
