package market

import (
	"fmt"
	"slices"

	"fallow.network"
)

// Refusals of an offer by a client; codes are stable.
var (
	ErrOtherDemand = &Refusal{Code: 32, Reason: fallow.ReasonOtherDemand, Text: "the offer answers another demand"}
	ErrOtherTenant = &Refusal{Code: 33, Reason: fallow.ReasonOtherTenant, Text: "the offer was made to another tenant"}
	ErrExpired     = &Refusal{Code: 34, Reason: fallow.ReasonExpired, Text: "the offer's last height has passed"}
	ErrUnsupported = &Refusal{Code: 35, Reason: fallow.ReasonUnsupported, Text: "the offer is for another kind or run profile"}
	ErrPlacement   = &Refusal{Code: 36, Reason: fallow.ReasonPlacement, Text: "the provider is not where the work may go"}
	ErrTerms       = &Refusal{Code: 37, Reason: fallow.ReasonTerms, Text: "the terms don't carry the work"}
)

// CheckOffer says why an offer, whose signature was verified, does not answer
// a demand. id is the digest of the demand's bytes, at the latest block that
// the client knows: the offer must be able to open a lease in the next one.
func CheckOffer(o Offer, id fallow.Digest, d Demand, at Block) error {
	t := o.Terms
	switch {
	case o.Demand != id || o.Workload != d.Workload:
		return ErrOtherDemand
	case o.Tenant != d.Tenant:
		return ErrOtherTenant
	case o.Kind != d.Kind || o.Profile != d.Profile:
		return fmt.Errorf("%s under profile %q: %w", o.Kind, o.Profile, ErrUnsupported)
	case o.LastHeight <= at.Height:
		return fmt.Errorf("last height %d at height %d: %w", o.LastHeight, at.Height, ErrExpired)
	case !d.Placement.Names(o.Provider):
		return fmt.Errorf("provider %s: %w", o.Provider, ErrPlacement)
	case !d.Slot.Fits(t.Slot):
		return fmt.Errorf("a slot is smaller than the demand's: %w", ErrTerms)
	case t.Slots > d.Slots:
		return fmt.Errorf("%d slots, %d were asked for: %w", t.Slots, d.Slots, ErrTerms)
	case o.Kind == KindBatch && t.MaxReserve == 0:
		return fmt.Errorf("no reserve is allowed: %w", ErrTerms)
	case o.Kind == KindBatch && t.UnpaidCeiling == 0:
		return fmt.Errorf("no unpaid work is allowed: %w", ErrTerms)
	}
	return nil
}

// Names says whether the placement leaves a provider in, by its account.
func (p Placement) Names(provider fallow.Account) bool {
	return !slices.Contains(p.Excluded, provider) &&
		(len(p.Providers) == 0 || slices.Contains(p.Providers, provider))
}

// Admits says whether work may go to a provider in that region with those
// attributes: all that the placement asks for must be there.
func (p Placement) Admits(provider fallow.Account, region string, has []Attribute) bool {
	if !p.Names(provider) || len(p.Regions) > 0 && !slices.Contains(p.Regions, region) {
		return false
	}
	for _, a := range p.Attributes {
		if !slices.Contains(has, a) {
			return false
		}
	}
	return true
}

// Work is what a client expects of an offer, for comparing prices.
type Work struct {
	Tasks   uint64
	Gas     fallow.Gas // of one task
	Seconds uint64     // services: how long one lease is wanted
}

// Cost is what the work is expected to cost by the terms.
func (w Work) Cost(t Terms, k Kind) (fallow.Pico, error) {
	if k == KindService {
		return t.SecondPrice.Mul(w.Seconds)
	}
	task, err := t.GasPrice.MulDiv(uint64(w.Gas), 1_000_000)
	if err != nil {
		return fallow.Pico{}, err
	}
	if task, err = task.Add(t.TaskFee); err != nil {
		return fallow.Pico{}, err
	}
	return task.Mul(w.Tasks)
}
