package sim

import (
	"crypto/ed25519"
	"fmt"
	"slices"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/receipt"
	"fallow.network/settle"
	"fallow.network/spec"
	"fallow.network/verify"
	"fallow.network/wire"
)

const (
	asks      = 12 // providers that a demand reaches
	maxLeases = 8
	deposit   = 50_000_000
	jobEvery  = 90 * 60 * 1000 // on average, milliseconds
)

// renter is a tenant.
type renter struct {
	account  fallow.Account
	client   market.ClientKey
	session  ed25519.PrivateKey
	bad      *Adversary
	secret   verify.Secret
	policy   verify.Policy
	evidence map[fallow.Key]verify.Evidence
	avoid    map[fallow.Account]fallow.Time
	running  int
	seen     []settle.OpenEntry // that opened leases before
	gained   fallow.Pico        // work that it never paid
	outside  bool               // its checks run at other providers
}

// job is one workload of a tenant.
type job struct {
	id     uint64
	tasks  []*task
	left   int
	leases []*lease
	began  fallow.Time
	leased fallow.Time
	asking bool
	over   bool
}

func (w *world) addRenter(i int, bad *Adversary) error {
	name := fmt.Sprintf("tenant %d", i)
	a, client := w.account(name)
	t := &renter{
		account: a, client: client, session: w.key(name + " session"), bad: bad, policy: verify.DefaultPolicy(),
		evidence: map[fallow.Key]verify.Evidence{}, avoid: map[fallow.Account]fallow.Time{},
	}
	if t.outside = i%2 == 1; t.outside {
		t.policy.Collusion = collusion
	}
	for i := range t.secret {
		t.secret[i] = byte(w.rng.Uint32())
	}
	w.bank[a] = deposit
	effects, err := w.books.Deposit(w.at(), a, a, deposit)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w.apply(effects)
	w.renters = append(w.renters, t)
	w.clock.after(w.between(0, min(jobEvery, uint64(w.o.For.Milliseconds()))), func() { t.submit(w) })
	return nil
}

func (w *world) latency() uint64 { return w.between(10, 150) }

// submit begins a job, and sees to the next.
func (t *renter) submit(w *world) {
	if w.clock.now >= w.end {
		return
	}
	w.clock.after(w.between(jobEvery/2, jobEvery*3/2), func() { t.submit(w) })
	w.report.Jobs++
	j := &job{id: uint64(w.report.Jobs), began: w.clock.now}
	for n := range w.between(5, 40) {
		gas := w.between(20_000_000_000, 200_000_000_000)
		j.tasks = append(j.tasks, &task{n: uint32(n), gas: gas, limit: 300_000_000_000})
	}
	j.left = len(j.tasks)
	t.running++
	if t.bad != nil {
		for range t.bad.floods {
			id, d := t.demand(w, j)
			for range asks {
				w.lenders[w.rng.IntN(len(w.lenders))].answer(w, id, d)
			}
		}
	}
	t.ask(w, j)
}

func (t *renter) demand(w *world, j *job) (fallow.Digest, market.Demand) {
	d := market.Demand{
		Tenant: t.account, ClientKey: t.client, SessionKey: wire.PublicKey(t.session), SealingKey: market.SealingKey{1}, Nonce: w.nonce(),
		Kind: market.KindBatch, Class: fallow.ClassWASM, Profile: spec.ProfileWASM, Slots: uint32(min(j.left, 16)),
		Workload: fallow.Sum(fmt.Appendf(nil, "job %d", j.id)), Expires: w.clock.now + 10_000, Seconds: 600, Tasks: uint32(j.left),
	}
	b, err := wire.EncodeDemand(d)
	if err != nil {
		w.broken("a demand is sound", err.Error(), t.account)
	}
	return fallow.Sum(b), d
}

// ask asks some providers and opens leases with the best.
func (t *renter) ask(w *world, j *job) {
	if j.asking || j.over {
		return
	}
	j.asking = true
	id, d := t.demand(w, j)
	var got []market.Candidate
	offers := map[fallow.Digest]market.Signed{}
	for _, i := range w.rng.Perm(len(w.lenders))[:min(asks, len(w.lenders))] {
		p, late := w.lenders[i], w.latency()
		if t.avoid[p.account] > w.clock.now {
			continue
		}
		w.clock.after(late, func() {
			s, ok := p.answer(w, id, d)
			if !ok {
				return
			}
			o, err := wire.OpenOffer(chainID, s)
			if err != nil || market.CheckOffer(o, id, d, w.at()) != nil {
				return
			}
			offers[s.ID()] = s
			got = append(got, market.Candidate{ID: s.ID(), Offer: o, LatencyMS: uint32(late * 2)})
		})
	}
	w.clock.after(500, func() {
		t.open(w, j, market.Rank(got, market.Work{Tasks: uint64(j.left), Gas: 100_000_000_000}, market.DefaultWeights()), offers)
	})
}

// open takes offers by score until there are slots enough.
func (t *renter) open(w *world, j *job, ranked []market.Ranked, offers map[fallow.Digest]market.Signed) {
	var entries []settle.OpenEntry
	var chosen []market.Offer
	slots := 0
	view, _, err := w.books.Account(w.at(), t.account)
	if err != nil {
		w.broken("an account can be read", err.Error(), t.account)
		return
	}
	free, _ := view.Free.Floor()
	for _, r := range ranked {
		if slots >= min(j.left, 16) || len(entries) >= maxLeases {
			break
		}
		each, err := receipt.Charge(r.Offer.Terms, 300_000_000_000)
		need, err2 := each.Mul(uint64(j.left))
		reserve, err3 := need.Ceil()
		if err != nil || err2 != nil || err3 != nil {
			continue
		}
		if reserve = min(reserve, r.Offer.Terms.MaxReserve, free/4); reserve == 0 {
			continue
		}
		free -= reserve
		slots += int(r.Offer.Terms.Slots)
		entries = append(entries, settle.OpenEntry{Offer: offers[r.ID], SessionKey: wire.PublicKey(t.session), Reserve: reserve})
		chosen = append(chosen, r.Offer)
	}
	if len(entries) == 0 {
		j.asking = false
		w.clock.after(30_000, func() { t.hand(w, j) })
		return
	}
	w.send(func(at settle.Block) error {
		results, effects, err := w.books.OpenLeases(at, t.account, t.account, entries)
		if err != nil {
			return fmt.Errorf("open leases of %s: %w", t.account, err)
		}
		w.apply(effects)
		for i, r := range results {
			if r.Reason != "" {
				w.report.skipped(r.Reason)
				continue
			}
			w.report.Leases++
			l := &lease{id: r.Lease, offer: chosen[i], tenant: t, by: w.by[chosen[i].Provider], job: j, session: t.session, reserve: entries[i].Reserve, seen: map[*order]receipt.Receipt{}}
			w.leases[l.id] = l
			j.leases = append(j.leases, l)
			l.by.adopt(w, l, entries[i].Offer.ID())
			if j.leased == 0 {
				j.leased = w.clock.now
				w.report.toLease = append(w.report.toLease, uint64(j.leased-j.began))
			}
		}
		j.asking = false
		t.hand(w, j)
		if t.bad != nil && t.bad.reopens {
			for i, r := range results {
				if r.Reason == "" {
					t.seen = append(t.seen, entries[i])
				}
			}
			t.seen = t.seen[max(0, len(t.seen)-8):]
			t.reopen(w)
		}
		return nil
	})
}

// reopen tries to open leases again by offers of before.
func (t *renter) reopen(w *world) {
	entries := slices.Clone(t.seen)
	w.send(func(at settle.Block) error {
		results, effects, err := w.books.OpenLeases(at, t.account, t.account, entries)
		if err != nil {
			return fmt.Errorf("open leases of %s: %w", t.account, err)
		}
		w.apply(effects)
		for _, r := range results {
			if r.Reason == "" {
				w.broken("an offer opens once", fmt.Sprintf("lease %d opened by an offer of before", r.Lease), t.account)
			}
			w.report.skipped(r.Reason)
		}
		return nil
	})
}

// hand gives tasks to leases, and asks again when none is left.
func (t *renter) hand(w *world, j *job) {
	if j.over {
		return
	}
	live := false
	for _, l := range j.leases {
		if l.over || l.closed {
			continue
		}
		live = true
		for _, k := range j.tasks {
			if l.out >= int(l.offer.Terms.Slots) {
				break
			}
			if k.done || k.on != nil {
				continue
			}
			k.on = l
			k.attempts++
			o := &order{k, l, k.attempts}
			l.out++
			w.clock.after(w.latency(), func() { l.by.take(w, o) })
			// Half the speed promised, and a minute for the way and the wait.
			w.clock.after(k.gas*2000/max(l.offer.Terms.LeastSpeed, 1)+60_000, func() {
				if !l.over && !j.over && !k.done && k.on == l && k.attempts == o.attempt {
					t.leave(w, l, fallow.ReasonTimeout)
				}
			})
		}
	}
	if !live {
		t.ask(w, j)
	}
}

// pay signs a voucher where it is time: half the ceiling, a wait, or an end.
func (t *renter) pay(w *world, l *lease, now bool) {
	l.waits = false
	if t.bad != nil && t.bad.stingy || len(l.payable) == 0 {
		return
	}
	var unpaid fallow.Pico
	for _, c := range l.payable {
		unpaid = plus(unpaid, c.charge)
	}
	if !now && unpaid.Cmp((l.offer.Terms.UnpaidCeiling/2).Pico()) < 0 {
		return
	}
	amount := plus(l.amount, unpaid)
	if amount.Cmp(l.reserve.Pico()) > 0 {
		t.leave(w, l, fallow.ReasonReserve)
		return
	}
	for _, c := range l.payable {
		l.tree = append(l.tree, c.digest)
		if c.wrong {
			w.report.WrongPaid++
		}
	}
	l.payable, l.amount, l.receipts = nil, amount, uint32(len(l.tree))
	b, err := wire.EncodeVoucher(receipt.Voucher{Lease: l.id, Amount: l.amount, Receipts: l.receipts, ReceiptsRoot: receipt.Root(l.tree)})
	if err != nil {
		w.broken("a voucher is sound", err.Error(), t.account)
		return
	}
	s := wire.Sign(l.session, market.SignsVoucher, chainID, b)
	w.checks.vouched(w, l)
	w.clock.after(w.latency(), func() {
		if no := l.by.twin.Voucher(l.id, wire.PublicKey(l.session), s, w.clock.time()); no != nil {
			w.report.refused(no.Reason)
		}
		l.by.pump(w)
	})
}

// leave ends a lease whose provider failed; its tasks go elsewhere.
func (t *renter) leave(w *world, l *lease, why fallow.Reason) {
	if l.over {
		return
	}
	w.report.left(why)
	l.by.failed++
	t.avoid[l.by.account] = w.clock.now + 3600*1000
	for _, k := range l.job.tasks {
		if k.on == l {
			k.on = nil
		}
	}
	t.shut(w, l, fallow.ReasonCancelled)
	t.hand(w, l.job)
}

// convict leaves a provider that was proven wrong: nothing more is paid, what it
// did unchecked is done again elsewhere, and what is known of it counts no more.
func (t *renter) convict(w *world, l *lease, charge fallow.Pico) {
	t.evidence[l.by.node] = t.evidence[l.by.node].Update(w.clock.now, t.policy.HalfLifeMS, charge, false)
	l.payable = nil
	for _, k := range l.job.tasks {
		if k.done && k.by == l && !k.checked {
			k.done, k.by = false, nil
			l.job.left++
			w.report.Tasks--
			w.report.Redone++
		}
	}
	t.leave(w, l, fallow.ReasonMismatch)
}

// shut pays what is owed and closes a lease.
func (t *renter) shut(w *world, l *lease, why fallow.Reason) {
	if l.over {
		return
	}
	l.over = true // before it pays: what is above the reserve must not come back here
	t.pay(w, l, true)
	if t.bad != nil && t.bad.stingy {
		return // gone without a word
	}
	w.clock.after(300, func() {
		if l.by.works(w) && l.by.leases[l.id] != nil {
			l.by.twin.End(l.id, fallow.ReasonCompleted)
			l.ended = true
			l.by.close(w, l, fallow.ReasonCompleted)
		}
		w.send(func(at settle.Block) error {
			_, effects, err := w.books.Close(at, t.account, []fallow.LeaseID{l.id}, why)
			if err != nil {
				return fmt.Errorf("close by %s: %w", t.account, err)
			}
			w.apply(effects)
			return nil
		})
	})
}

// finish ends a job.
func (t *renter) finish(w *world, j *job) {
	j.over = true
	t.running--
	w.report.JobsDone++
	w.report.toFinish = append(w.report.toFinish, uint64(w.clock.now-j.began))
	for _, l := range j.leases {
		t.shut(w, l, fallow.ReasonCompleted)
	}
}
