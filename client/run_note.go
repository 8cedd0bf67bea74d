package client

import (
	"context"
	"time"

	"fallow.network"
)

// note keeps a step, for whoever asks later where a job's time went.
func (r *run) note(ctx context.Context, t step) {
	if t.at.IsZero() {
		t.at = time.Now()
	}
	if t.provider == "" && t.lease != 0 {
		t.provider = r.providerOf(t.lease)
	}
	if err := r.store.addStep(ctx, r.rec.ID, t); err != nil {
		r.stop(err)
	}
}

// noteEvent keeps what of the events is told by nothing else.
func (r *run) noteEvent(ctx context.Context, e Event) {
	switch e := e.(type) {
	case Declined:
		r.note(ctx, step{kind: stepDecline, provider: e.Provider, reason: e.Reason, detail: e.Detail})
	case LeaseSkipped:
		r.note(ctx, step{kind: stepSkip, provider: e.Provider, reason: e.Reason})
	case ProviderLost:
		if r.rec.State == StateSettling {
			return // it has said all, and leaves
		}
		kind := stepLost
		if e.Gone {
			kind = stepGone
		}
		r.note(ctx, step{kind: kind, lease: e.Lease, provider: e.Provider, detail: e.Detail})
	case ProviderBack:
		r.note(ctx, step{kind: stepBack, lease: e.Lease, provider: e.Provider})
	case Away:
		now := time.Now()
		// Once for each time that it is away, however many ask meanwhile.
		if began := now.Add(-e.For); began.Sub(r.away[e.What]) > mostPause {
			r.note(ctx, step{kind: stepAway, at: began, detail: e.What})
		}
		r.away[e.What] = now
	case Verdict:
		reason := fallow.ReasonMismatch
		if e.Wrong == "" {
			reason = ""
		}
		r.note(ctx, step{kind: stepVerdict, provider: e.Wrong, count: e.Reopened, reason: reason, detail: e.Detail})
	case Paid:
		r.note(ctx, step{kind: stepVouchers, lease: e.Lease, provider: e.Provider, count: 1})
	default:
	}
}

// noteLeased keeps how long offers and leases took.
func (r *run) noteLeased(ctx context.Context, m leased) {
	if a := m.asked; !a.began.IsZero() {
		t := step{kind: stepAsk, at: a.began, until: a.ended, count: len(a.offers), bytes: uint64(len(a.declines))}
		if a.err != nil {
			t.detail = firstLine(a.err)
		}
		r.note(ctx, t)
	}
	if !m.sent.IsZero() {
		t := step{kind: stepLease, at: m.sent, until: m.done}
		for _, l := range m.opened {
			if l.id != 0 {
				t.count++
			}
		}
		r.note(ctx, t)
	}
}

// moved is what came from a provider beside its receipts.
type moved struct {
	files int
	bytes uint64
	took  time.Duration
}

// noteFetched adds up what came with a receipt.
func (r *run) noteFetched(f fetched) {
	if f.took == 0 {
		return
	}
	m := r.moves[f.id.lease]
	m.took += f.took
	for _, o := range f.parcel.files {
		m.files++
		m.bytes += o.Size
	}
	r.moves[f.id.lease] = m
}

// noteOutputs keeps those sums, at the end.
func (r *run) noteOutputs(ctx context.Context, now time.Time) {
	for _, id := range r.stationIDs() {
		if m := r.moves[id]; m.files > 0 {
			r.note(ctx, step{kind: stepOutputs, lease: id, at: now, until: now.Add(m.took), count: m.files, bytes: m.bytes})
		}
	}
}
