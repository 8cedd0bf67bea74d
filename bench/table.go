package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"fallow.network/hardware"
)

// Row is one figure of the table.
type Row struct {
	What string `json:"what"`
	// Value is in Unit; a row that was not measured has none.
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Goal is in Unit, too; 0 is none. Most are upper bounds, Over is a lower.
	Goal float64 `json:"goal,omitempty"`
	Over bool    `json:"goal_is_least,omitempty"`
	// Ratio is Value to Baseline, measured in the same run; 0 is none.
	Ratio    float64 `json:"ratio,omitempty"`
	Baseline string  `json:"baseline,omitempty"`
	Note     string  `json:"note,omitempty"`
}

// Met says whether the goal is met, where there is one.
func (r Row) Met() string {
	switch {
	case r.Goal == 0 || r.Unit == "":
		return ""
	case r.Over && r.Value > r.Goal, !r.Over && r.Value <= r.Goal:
		return "yes"
	default:
		return "no"
	}
}

// machine is where figures come from.
type machine struct {
	Model string `json:"model"`
	Cores int    `json:"cores"`
	// Load is the load average over 1, 5 and 15 minutes.
	Load string `json:"load"`
}

func thisMachine(ctx context.Context) machine {
	cpu := hardware.Read(ctx, hardware.Roots{}).CPU
	m := machine{Model: cpu.Model, Cores: cpu.Threads, Load: "unknown"}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(b)); len(f) > 3 {
			m.Load = strings.Join(f[:3], " ")
		}
	}
	return m
}

// table is all that a run printed.
type table struct {
	Machine machine   `json:"machine"`
	Begun   time.Time `json:"begun"`
	Quick   bool      `json:"quick"`
	Rows    []Row     `json:"rows"`
	// Ended is the load average at the end.
	Ended string `json:"load_at_end"`
}

func (t table) print(w io.Writer) {
	fmt.Fprintf(w, "%d cores, %s; load average %s at the start, %s at the end\n", t.Machine.Cores, t.Machine.Model, t.Machine.Load, t.Ended)
	fmt.Fprintf(w, "%s", t.Begun.Format(time.DateTime+" MST"))
	if t.Quick {
		fmt.Fprint(w, ", in haste")
	}
	fmt.Fprint(w, "\n\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "what\tmeasured\tgoal\tmet\tratio\tnote")
	for _, r := range t.Rows {
		fmt.Fprintln(tw, strings.TrimRight(strings.Join([]string{r.What, figure(r.Value, r.Unit), r.goal(), r.Met(), r.ratio(), r.Note}, "\t"), "\t"))
	}
	_ = tw.Flush() // a table that can't be printed has nobody to tell
}

func (r Row) goal() string {
	switch {
	case r.Goal == 0:
		return ""
	case r.Over:
		return "> " + figure(r.Goal, r.Unit)
	default:
		return "<= " + figure(r.Goal, r.Unit)
	}
}

func (r Row) ratio() string {
	if r.Ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.3gx %s", r.Ratio, r.Baseline)
}

func figure(v float64, unit string) string {
	switch {
	case unit == "":
		return ""
	case v >= 1000:
		return fmt.Sprintf("%.0f %s", v, unit)
	default:
		return fmt.Sprintf("%.3g %s", v, unit)
	}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// at is the value below which a part of all lies; part is 0 to 1.
func at(all []time.Duration, part float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[min(int(part*float64(len(all))), len(all)-1)]
}
