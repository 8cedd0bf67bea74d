package sim

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"fallow.network"
)

// Report is what a simulation came to. Amounts are credits.
type Report struct {
	Command      string                `json:"command"`
	Digest       string                `json:"digest"` // of every event
	Virtual      time.Duration         `json:"virtual"`
	Blocks       int64                 `json:"blocks"`
	Jobs         int                   `json:"jobs"`
	JobsDone     int                   `json:"jobs_done"`
	Tasks        int                   `json:"tasks"`
	Asked        int                   `json:"asked"`
	Offers       int                   `json:"offers"`
	Leases       int                   `json:"leases"`
	Checks       int                   `json:"checks"`
	Caught       int                   `json:"caught"`       // by a check
	Confirmed    int                   `json:"confirmed"`    // wrong results that a checker confirmed
	Proofs       int                   `json:"proofs"`       // two receipts of one attempt
	Redone       int                   `json:"redone"`       // tasks that were done again, their provider found wrong
	WrongPaid    int                   `json:"wrong_paid"`   // wrong results that were paid
	OverCeiling  int                   `json:"over_ceiling"` // leases that lost more than the bare ceiling
	Transactions int                   `json:"transactions"`
	ToLease      Spread                `json:"to_lease_ms"`
	ToFinish     Spread                `json:"to_finish_ms"`
	Earned       Spread                `json:"earned_ucredit"` // of each honest provider
	Utilisation  float64               `json:"utilisation"`    // of honest slots' time
	LostHonest   fallow.Pico           `json:"lost_honest"`    // work of honest providers that nobody paid
	Kinds        []KindReport          `json:"kinds"`
	Declines     map[fallow.Reason]int `json:"declines"`
	Skips        map[fallow.Reason]int `json:"skips"`
	Refusals     map[fallow.Reason]int `json:"refusals"`
	Left         map[fallow.Reason]int `json:"left"`
	Ends         map[fallow.Reason]int `json:"ends"`

	toLease, toFinish []uint64
}

// KindReport is what one kind of adversary came to.
type KindReport struct {
	Name    string         `json:"name"`
	Parties int            `json:"parties"`
	Slots   int            `json:"slots"`          // of providers of it
	Leases  int            `json:"leases"`         // with providers of it
	Beyond  int            `json:"beyond"`         // of these, opened while its slots were let already
	Failed  int            `json:"failed"`         // of these, left by tenants for its fault
	Earned  fallow.Credits `json:"earned_ucredit"` // that came to providers of it
	Unpaid  fallow.Pico    `json:"unpaid"`         // its work that nobody paid
	Taken   fallow.Pico    `json:"taken"`          // work that tenants of it never paid
}

// Spread is an order statistic.
type Spread struct {
	P5  uint64 `json:"p5"`
	P50 uint64 `json:"p50"`
	P95 uint64 `json:"p95"`
}

func spread(all []uint64) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	slices.Sort(all)
	at := func(p int) uint64 { return all[min(len(all)-1, len(all)*p/100)] }
	return Spread{at(5), at(50), at(95)}
}

func count(m *map[fallow.Reason]int, r fallow.Reason) {
	if *m == nil {
		*m = map[fallow.Reason]int{}
	}
	(*m)[r]++
}

func (r *Report) declined(why fallow.Reason) { count(&r.Declines, why) }
func (r *Report) skipped(why fallow.Reason)  { count(&r.Skips, why) }
func (r *Report) refused(why fallow.Reason)  { count(&r.Refusals, why) }
func (r *Report) left(why fallow.Reason)     { count(&r.Left, why) }
func (r *Report) ended(why fallow.Reason)    { count(&r.Ends, why) }

// summary adds up the parties.
func (w *world) summary() {
	r := &w.report
	r.Command, r.Digest = w.o.Command(), hex.EncodeToString(w.digest.Sum(nil))
	r.Virtual, r.Blocks = time.Duration(w.clock.now-start)*time.Millisecond, int64(w.height)
	r.ToLease, r.ToFinish = spread(r.toLease), spread(r.toFinish)
	var earned []uint64
	var busy, slots uint64
	kinds := map[string]*KindReport{}
	of := func(a *Adversary) *KindReport {
		k := kinds[a.Name]
		if k == nil {
			k = &KindReport{Name: a.Name}
			kinds[a.Name] = k
		}
		k.Parties++
		return k
	}
	for _, p := range w.lenders {
		if p.bad != nil {
			k := of(p.bad)
			k.Slots += int(p.slots)
			k.Leases += p.opened
			k.Beyond += p.beyond
			k.Failed += p.failed
			k.Earned += fallow.Credits(p.earned) + w.checks.due[p.account]
			k.Unpaid = plus(k.Unpaid, p.lost)
			continue
		}
		earned = append(earned, p.earned+uint64(w.checks.due[p.account]))
		busy += p.busy
		slots += uint64(p.slots)
		r.LostHonest = plus(r.LostHonest, p.lost)
	}
	for _, t := range w.renters {
		if t.bad != nil {
			k := of(t.bad)
			k.Taken = plus(k.Taken, t.gained)
		}
	}
	r.Earned = spread(earned)
	if time := uint64(w.clock.now-start) * slots; time > 0 {
		r.Utilisation = math.Round(float64(busy)/float64(time)*1000) / 1000
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		r.Kinds = append(r.Kinds, *kinds[name])
	}
}

// Print writes the report for people.
func (r Report) Print(out io.Writer) {
	ms := func(v uint64) time.Duration { return time.Duration(v) * time.Millisecond }
	fmt.Fprintf(out, "%s virtual, %d blocks; events %.16s\n", r.Virtual, r.Blocks, r.Digest)
	fmt.Fprintf(out, "jobs           %d of %d done, %d tasks\n", r.JobsDone, r.Jobs, r.Tasks)
	fmt.Fprintf(out, "market         %d asked, %d offers, %d leases\n", r.Asked, r.Offers, r.Leases)
	fmt.Fprintf(out, "to a lease     p50 %s, p95 %s\n", ms(r.ToLease.P50), ms(r.ToLease.P95))
	fmt.Fprintf(out, "to the end     p50 %s, p95 %s\n", ms(r.ToFinish.P50), ms(r.ToFinish.P95))
	fmt.Fprintf(out, "checks         %d, %d found false, %d lies confirmed; %d wrong results paid\n", r.Checks, r.Caught, r.Confirmed, r.WrongPaid)
	if r.Proofs+r.Redone > 0 {
		fmt.Fprintf(out, "proofs         %d of two receipts for one attempt; %d tasks done again elsewhere\n", r.Proofs, r.Redone)
	}
	fmt.Fprintf(out, "honest earned  p5 %s, p50 %s, p95 %s credits\n", fallow.Credits(r.Earned.P5), fallow.Credits(r.Earned.P50), fallow.Credits(r.Earned.P95))
	fmt.Fprintf(out, "honest unpaid  %s credits of work; %d leases above the bare ceiling\n", r.LostHonest, r.OverCeiling)
	fmt.Fprintf(out, "utilisation    %.1f%%\n", r.Utilisation*100)
	fmt.Fprintf(out, "transactions   %d, %.3f a task\n", r.Transactions, float64(r.Transactions)/float64(max(r.Tasks, 1)))
	for _, m := range []struct {
		name string
		of   map[fallow.Reason]int
	}{{"declines", r.Declines}, {"skipped", r.Skips}, {"refusals", r.Refusals}, {"left for", r.Left}, {"ends", r.Ends}} {
		if len(m.of) == 0 {
			continue
		}
		fmt.Fprintf(out, "%-14s", m.name)
		for _, k := range slices.SortedFunc(maps.Keys(m.of), func(a, b fallow.Reason) int { return cmp.Or(m.of[b]-m.of[a], cmp.Compare(a, b)) }) {
			fmt.Fprintf(out, " %s %d", k, m.of[k])
		}
		fmt.Fprintln(out)
	}
	for _, k := range r.Kinds {
		fmt.Fprintf(out, "%-14s %d parties: earned %s, worked unpaid %s, took unpaid %s credits", k.Name, k.Parties, k.Earned, k.Unpaid, k.Taken)
		if k.Leases > 0 {
			fmt.Fprintf(out, "; %d leases, %d beyond its slots, %d left", k.Leases, k.Beyond, k.Failed)
		}
		fmt.Fprintln(out)
	}
}
