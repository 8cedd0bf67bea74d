package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"fallow.network/client"
)

// Styles of the live display. Colour carries nothing that words don't.
var (
	styleTitle = lipgloss.NewStyle().Bold(true)
	styleDim   = lipgloss.NewStyle().Foreground(lipgloss.Color("245"))
	styleGood  = lipgloss.NewStyle().Foreground(lipgloss.Color("71"))
	styleBad   = lipgloss.NewStyle().Foreground(lipgloss.Color("167"))
	styleBar   = lipgloss.NewStyle().Foreground(lipgloss.Color("179"))
)

// display is a watch drawn over and over at a terminal.
type display struct {
	*watch
	now   time.Time
	width int
}

type (
	tick time.Time
	done struct{}
)

// Init starts the clock.
func (d *display) Init() tea.Cmd { return d.clock() }

func (d *display) clock() tea.Cmd {
	return tea.Tick(200*time.Millisecond, func(t time.Time) tea.Msg { return tick(t) })
}

// Update takes an event, the clock or the window's size.
func (d *display) Update(m tea.Msg) (tea.Model, tea.Cmd) {
	switch m := m.(type) {
	case tick:
		d.now = time.Time(m)
		return d, d.clock()
	case tea.WindowSizeMsg:
		d.width = m.Width
	case done:
		return d, tea.Quit
	case client.Event:
		d.take(m, d.now)
	}
	return d, nil
}

// View draws the job.
func (d *display) View() tea.View { return tea.NewView(d.draw()) }

func (d *display) draw() string {
	var b strings.Builder
	width := min(max(d.width, 60), 110)
	fmt.Fprintf(&b, "%s  %s\n\n", styleTitle.Render(d.name), styleDim.Render(string(d.state)))
	row := func(head, format string, args ...any) {
		fmt.Fprintf(&b, "  %s %s\n", styleDim.Render(fmt.Sprintf("%-8s", head)), fmt.Sprintf(format, args...))
	}
	if d.asked.Tasks > 0 {
		row("demand", "%s and %s directly, %s, %d declined", count(d.asked.Hubs, "hub"), count(d.asked.Providers, "provider"), count(len(d.offers), "offer"), len(d.decline))
	}
	for i, o := range d.offers {
		head := ""
		if i == 0 {
			head = "offers"
		}
		row(head, "%-14s %12s /Ggas  %-8s %-8s %7s  score %d", short(o.Provider), perGiga(o.GasPrice), count(int(o.Slots), "slot"), o.Region, o.Latency.Round(time.Millisecond), o.Score.Total)
	}
	if len(d.offers) == 0 {
		for _, x := range d.decline {
			row("declined", "%-14s %s", short(x.Provider), because(x.Reason, x.Detail))
		}
	}
	most := 1
	for _, s := range d.seats {
		most = max(most, s.done)
	}
	for i, s := range d.seats {
		head := ""
		if i == 0 {
			head = "leases"
		}
		state := styleGood.Render(fmt.Sprintf("%d running", len(s.running)))
		switch {
		case s.ended != "":
			state = styleDim.Render(s.ended.Text())
		case s.gone:
			state = styleBad.Render("gone")
		}
		row(head, "%-14s %s %3d done  %12s gas  %s", short(s.provider), styleBar.Render(bar(s.done, most, 16)), s.done, si(uint64(s.gas)), state)
	}
	if d.chosen > 0 {
		verdict := styleGood.Render(fmt.Sprintf("%d agreed", d.agreed))
		if d.differ > 0 {
			verdict += ", " + styleBad.Render(fmt.Sprintf("%d disagreed", d.differ))
		}
		row("checks", "%d chosen, %s", d.chosen, verdict)
	}
	elapsed := d.now.Sub(d.begun)
	left := ""
	if d.done > 0 && d.done < d.of {
		left = fmt.Sprintf(", about %s left", (elapsed / time.Duration(d.done) * time.Duration(d.of-d.done)).Round(time.Second))
	}
	fmt.Fprintf(&b, "\n  %s %d of %d\n", styleBar.Render(bar(d.done, d.of, width-20)), d.done, d.of)
	fmt.Fprintf(&b, "  %s credits for results, %s paid with checks, budget %s, %s%s\n\n", d.owed, d.paid, d.budget, max(elapsed, 0).Round(time.Second), left)
	for _, line := range d.last {
		fmt.Fprintf(&b, "  %s\n", styleDim.Render(clip(line, width-2)))
	}
	return b.String()
}

// bar is n of of as blocks.
func bar(n, of, width int) string {
	if of <= 0 || width <= 0 {
		return ""
	}
	full := min(n*width/of, width)
	return strings.Repeat("█", full) + strings.Repeat("░", width-full)
}

// clip cuts a line to a width in runes.
func clip(s string, width int) string {
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	return string(r[:max(width-1, 0)]) + "…"
}

// si is a count with a prefix and about three digits, as 17.9 G.
func si(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10)
	}
	v, prefix := float64(n), ""
	for _, prefix = range []string{"k", "M", "G", "T", "P", "E"} {
		if v /= 1000; v < 1000 {
			break
		}
	}
	decimals := 2
	for tens := v; tens >= 10 && decimals > 0; tens /= 10 {
		decimals--
	}
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + " " + prefix
}

// drawTo draws events live on a terminal until stop is called. Ctrl-C is left
// to the program: the terminal stays in its usual mode.
func drawTo(out io.Writer, w *watch) (events client.Events, stop func() error) {
	p := tea.NewProgram(&display{watch: w, now: time.Now()}, tea.WithInput(nil), tea.WithOutput(out), tea.WithoutSignalHandler(), tea.WithFPS(20))
	ended := make(chan error, 1)
	go func() {
		_, err := p.Run()
		ended <- err
	}()
	return func(e client.Event) { p.Send(e) }, func() error {
		p.Send(done{})
		return <-ended
	}
}
