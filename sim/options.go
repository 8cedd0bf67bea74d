package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Options fix a simulation.
type Options struct {
	Seed      uint64        `json:"seed"`
	Providers int           `json:"providers"`
	Tenants   int           `json:"tenants"`
	For       time.Duration `json:"for"` // virtual time in which jobs begin, nanoseconds
	// Adversaries are kinds with their share of their side, in percent.
	Adversaries []Share `json:"adversaries"`
	// Progress is told the share of virtual time that is over; may be nil.
	Progress func(percent int) `json:"-"`

	// tamper lets a test break a rule and see that it is noticed; it is called
	// before any party comes.
	tamper func(*world)
}

// Share is how much of its side an adversary has.
type Share struct {
	Name    string `json:"name"`
	Percent int    `json:"percent"`
}

// Default is a day of a middling market.
func Default() Options {
	return Options{Seed: 1, Providers: 1000, Tenants: 200, For: 24 * time.Hour}
}

// ParseShares reads NAME=PERCENT,...; a percentage counts of the providers or
// of the tenants, whichever the adversary is.
func ParseShares(s string) ([]Share, error) {
	var out []Share
	if s == "" {
		return nil, nil
	}
	for _, part := range strings.SplitN(s, ",", 64) {
		var n int
		name, number, ok := strings.Cut(part, "=")
		if _, err := fmt.Sscanf(number, "%d", &n); !ok || err != nil || fmt.Sprint(n) != number {
			return nil, fmt.Errorf("adversaries: %.60q: want NAME=PERCENT, as withhold=10", part)
		}
		out = append(out, Share{name, n})
	}
	return out, nil
}

// Validate says which option is out of bounds.
func (o Options) Validate() error {
	switch {
	case o.Providers < 1 || o.Providers > 10_000:
		return fmt.Errorf("providers: %d: want 1 to 10000", o.Providers)
	case o.Tenants < 1 || o.Tenants > 5_000:
		return fmt.Errorf("tenants: %d: want 1 to 5000", o.Tenants)
	case o.For < time.Minute || o.For > 31*24*time.Hour:
		return fmt.Errorf("for: %s: want 1m to 744h", o.For)
	}
	sums := map[bool]int{}
	var seen []string
	for _, s := range o.Adversaries {
		a, ok := adversary(s.Name)
		switch {
		case !ok:
			return fmt.Errorf("adversaries: none is called %.40q: see fallow sim --help", s.Name)
		case slices.Contains(seen, s.Name):
			return fmt.Errorf("adversaries: %s stands twice", s.Name)
		case s.Percent < 1 || s.Percent > 90:
			return fmt.Errorf("adversaries: %s=%d: want 1 to 90", s.Name, s.Percent)
		}
		seen = append(seen, s.Name)
		if sums[a.Lends] += s.Percent; sums[a.Lends] > 90 {
			return fmt.Errorf("adversaries: above 90%% of one side: some must be honest")
		}
	}
	return nil
}

// Command is what runs the same simulation again.
func (o Options) Command() string {
	c := fmt.Sprintf("fallow sim --seed %d --providers %d --tenants %d --for %s", o.Seed, o.Providers, o.Tenants, o.For)
	sep := " --adversaries "
	for _, s := range o.Adversaries {
		c += fmt.Sprintf("%s%s=%d", sep, s.Name, s.Percent)
		sep = ","
	}
	return c
}
