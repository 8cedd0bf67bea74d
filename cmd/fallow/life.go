package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"fallow.network"
	"fallow.network/client"
)

// width is how many columns text may take: the terminal's, or $COLUMNS, or 80.
func (a *app) width() int {
	width := 80
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil {
		width = n
	}
	if f, ok := a.out.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = n
		}
	}
	return min(max(width, 30), 110)
}

// lifeText writes lines that fit a width: each begins with a head, and what
// does not fit goes on below its text.
type lifeText struct {
	w     io.Writer
	width int
}

func (t lifeText) title(s string) { fmt.Fprintf(t.w, "\n%s\n", s) }

func (t lifeText) line(head, format string, args ...any) {
	head = "  " + clean(head) + "  "
	indent := utf8.RuneCountInString(head)
	if indent > t.width/2 { // a narrow terminal: the text begins on its own line
		fmt.Fprintln(t.w, strings.TrimRight(head, " "))
		head, indent = "    ", 4
	}
	at, line := indent, head
	for i, word := range strings.Fields(clean(fmt.Sprintf(format, args...))) {
		n := utf8.RuneCountInString(word)
		if i > 0 {
			if at+1+n > t.width {
				fmt.Fprintln(t.w, line)
				line, at = strings.Repeat(" ", indent), indent
			} else {
				line, at = line+" ", at+1
			}
		}
		line, at = line+word, at+n
	}
	fmt.Fprintln(t.w, strings.TrimRight(line, " "))
}

// lasted is a time for people: 40ms, 0.92s, 1m20s.
func lasted(d time.Duration) string {
	switch {
	case d < 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.2fs", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

// share is n of all in percent.
func share(permille int) string {
	if permille < 10 {
		return "<1%"
	}
	return fmt.Sprintf("%d%%", (permille+5)/10)
}

// partOf is a as a share of all.
func partOf(a, all fallow.Pico) string {
	if all.IsZero() || a.IsZero() {
		return "0%"
	}
	thousand, err := a.Mul(1000)
	if err != nil {
		return ""
	}
	n, err := thousand.Div(all)
	if err != nil {
		return ""
	}
	return share(int(n))
}

// printLife tells in words where a job's time and money went.
func printLife(w io.Writer, l *client.Life, b *client.Bill, width int) {
	t := lifeText{w, width}
	if len(l.Phases) > 0 {
		t.title("WHERE THE TIME WENT: " + lasted(l.Wall))
		for _, p := range l.Phases {
			t.line(fmt.Sprintf("%-6s %7s %4s", p.Name, lasted(p.Took), share(p.Share)), "%s", phaseText(p.Name, l, b))
		}
		if !l.Recorded {
			t.line("note", "this job's steps were not written down: less is known of it")
		}
		if l.Runs > 1 {
			t.line("note", "it was taken up %d times; times between are part of it", l.Runs)
		}
	}
	t.slowest(l.Slowest)
	if len(l.Providers) > 0 {
		t.title("WHERE THE MONEY WENT: " + credits(b.Charged) + " charged, " + credits(b.Paid) + " paid")
		t.money(l, b)
		t.title("PROVIDERS")
		for _, p := range l.Providers {
			t.line(short(p.Provider), "%s", providerText(p))
		}
	}
	if len(l.Tries) > 0 {
		t.title("TRIED AGAIN")
		for _, x := range l.Tries {
			t.line(fmt.Sprintf("%d ×", x.Count), "at %s: %s", short(x.Provider), x.Reason.Text())
		}
	}
	t.moments(l)
}

func phaseText(name string, l *client.Life, b *client.Bill) string {
	opened := 0
	for _, m := range l.Moments {
		if m.Kind == "lease" {
			opened += m.Count
		}
	}
	switch name {
	case client.PhaseAsk:
		return "asked the market and chose among the offers"
	case client.PhaseLease:
		if opened == 0 {
			return "waited until leases were open"
		}
		return "waited for the block that opened " + count(opened, "lease")
	case client.PhaseStart:
		return "reached the providers and sent them the first inputs"
	case client.PhaseWork:
		var ran time.Duration
		slots := uint32(0)
		for _, p := range l.Providers {
			ran += p.Ran
		}
		for _, p := range b.Providers {
			slots += p.Slots
		}
		return fmt.Sprintf("%d of %s done; runs took %s, added up over %s", b.Done, count(b.Tasks, "task"), lasted(ran), count(int(slots), "slot"))
	case client.PhaseCheck:
		return "waited for checks after the last result"
	case client.PhaseSettle:
		return "signed the last vouchers; providers signed releases"
	case client.PhaseClose:
		return "brought the ends of the leases to the ledger"
	default:
		return ""
	}
}

func (t lifeText) slowest(s *client.LifeTask) {
	if s == nil {
		return
	}
	why := ""
	switch s.Why {
	case client.SlowRetried:
		why = fmt.Sprintf("it was handed out %d times", s.Tries)
	case client.SlowGas:
		why = fmt.Sprintf("it used %.1f times the gas of the middle task", s.Times)
	case client.SlowSpeed:
		why = fmt.Sprintf("%s took %.1f times the middle time for its gas", short(s.Provider), s.Times)
	case client.SlowWaited:
		why = fmt.Sprintf("it ran for %s of that, and waited for inputs, a slot or its way the rest", lasted(s.Ran))
	default:
		why = "none stands out"
	}
	t.line("slowest", "%s by %s: %s (the middle one took %s); %s", s.Label, short(s.Provider), lasted(s.Took), lasted(s.Middle), why)
}

func (t lifeText) money(l *client.Life, b *client.Bill) {
	m := l.Money
	row := func(head string, amount fallow.Pico, format string, args ...any) {
		t.line(fmt.Sprintf("%-7s %4s", head, partOf(amount, b.Charged)), "%s for %s", credits(amount), fmt.Sprintf(format, args...))
	}
	row("tasks", m.Tasks, "%s", count(b.Done, "result"))
	c := b.Checks
	ran := c.Chosen - c.Skipped
	agreed := fmt.Sprintf("%d agreed", c.Agreed)
	if ran > 0 && c.Agreed == ran {
		agreed = "all agreed"
	}
	if ran == 0 {
		agreed = "nothing was compared"
	}
	row("checks", m.Checks, "%d of %s run again, %d of them here (%s, not paid); %s", ran, count(b.Tasks, "task"), c.Own, lasted(l.CheckTime), agreed)
	if !m.Copies.IsZero() {
		row("copies", m.Copies, "second copies beside slow providers, and results done anew")
	}
	if !m.Refused.IsZero() {
		row("refused", m.Refused, "results found wrong: not paid")
	}
	t.line("fees        ", "%s FAL for %s", ledgerTokens(m.Fees), count(len(b.Transactions), "transaction"))
	if m.Reserved > 0 {
		t.line("escrow      ", "%s credits were reserved, %s of it come back", m.Reserved, credits(m.Back))
	}
}

// ledgerTokens is an amount of ufal in FAL.
func ledgerTokens(ufal uint64) string { return fallow.Credits(ufal).String() }

func providerText(p client.LifeProvider) string {
	var s []string
	say := func(format string, args ...any) { s = append(s, fmt.Sprintf(format, args...)) }
	work := count(p.Tasks, "task")
	if p.Reruns > 0 {
		work += " and " + count(p.Reruns, "re-run")
	}
	say("lease %d in %s: %s, %s of runs in %s of waiting for them", p.Lease, p.Region, work, lasted(p.Ran), lasted(p.Out))
	say("%s credits per Ggas, %s paid by %s", perGiga(p.GasPrice), credits(p.Paid), count(p.Vouchers, "voucher"))
	if p.Inputs > 0 {
		say("inputs: %s, %s in %s", count(p.Inputs, "blob"), size(p.InputBytes), lasted(p.InputTime))
	}
	if p.Outputs > 0 {
		say("outputs: %s, %s in %s", count(p.Outputs, "file"), size(p.OutputBytes), lasted(p.OutputTime))
	}
	if p.Elsewhere > 0 {
		say("%s went elsewhere", count(p.Elsewhere, "task"))
	}
	if p.Failed > 0 {
		say("%s without a result", count(p.Failed, "attempt"))
	}
	switch {
	case p.Gone:
		say("it was lost (%s) and did not come back", p.Detail)
	case p.Losses > 0:
		say("its connection broke %s and came back (%s)", count(p.Losses, "time"), p.Detail)
	}
	if p.Reason != "" && p.Reason != fallow.ReasonCompleted {
		say("ended: %s", p.Reason.Text())
	}
	return strings.Join(s, "; ")
}

// moments tells what happened, in order. Blobs of one lease that follow each
// other are one line.
func (t lifeText) moments(l *client.Life) {
	if len(l.Moments) == 0 {
		return
	}
	t.title("WHAT HAPPENED")
	for i := 0; i < len(l.Moments); i++ {
		m := l.Moments[i]
		if m.Kind == "input" {
			end := m.At + m.Took
			for i+1 < len(l.Moments) && l.Moments[i+1].Kind == "input" && l.Moments[i+1].Lease == m.Lease {
				i++
				m.Count, m.Bytes, end = m.Count+l.Moments[i].Count, m.Bytes+l.Moments[i].Bytes, max(end, l.Moments[i].At+l.Moments[i].Took)
			}
			m.Took = end - m.At
		}
		if text := momentText(m); text != "" {
			t.line(fmt.Sprintf("%8s", lasted(m.At)), "%s", text)
		}
	}
}

func momentText(m client.Moment) string {
	who := short(m.Provider)
	switch m.Kind {
	case "run":
		return "a program took the job up"
	case "ask":
		s := fmt.Sprintf("asked the market: %s and %s within %s", count(m.Count, "offer"), count(int(m.Bytes), "decline"), lasted(m.Took))
		if m.Detail != "" {
			s += "; " + m.Detail
		}
		return s
	case "decline":
		return fmt.Sprintf("%s made no offer: %s", who, because(m.Reason, m.Detail))
	case "lease":
		return fmt.Sprintf("waited %s for the block that opened %s", lasted(m.Took), count(m.Count, "lease"))
	case "skip":
		return fmt.Sprintf("no lease with %s: %s", who, m.Reason.Text())
	case "up":
		return fmt.Sprintf("reached %s (lease %d)", who, m.Lease)
	case "lost":
		return fmt.Sprintf("lost %s: %s", who, m.Detail)
	case "gone":
		return fmt.Sprintf("%s did not come back; its tasks went elsewhere", who)
	case "back":
		return who + " came back"
	case "input":
		return fmt.Sprintf("sent %s, %s to %s in %s", count(m.Count, "blob"), size(m.Bytes), who, lasted(m.Took))
	case "outputs":
		return fmt.Sprintf("had fetched %s, %s from %s in %s all together", count(m.Count, "file"), size(m.Bytes), who, lasted(m.Took))
	case "vouchers":
		return fmt.Sprintf("first of %s to %s, the last %s later", count(m.Count, "voucher"), who, lasted(m.Took))
	case "away":
		return m.Detail + " did not answer"
	case "verdict":
		if m.Provider == "" {
			return "a third run decided nothing: " + m.Detail
		}
		return fmt.Sprintf("a third run found %s wrong, and %s began anew: %s", who, count(m.Count, "task"), m.Detail)
	case "settle":
		return fmt.Sprintf("signed the last vouchers and took releases in %s", lasted(m.Took))
	case "close":
		return fmt.Sprintf("brought the ends of the leases to the ledger in %s", lasted(m.Took))
	default:
		return m.Kind
	}
}
