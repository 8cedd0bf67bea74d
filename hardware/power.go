package hardware

import (
	"path/filepath"
	"strings"
)

// Power is what the machine's energy counters read.
type Power struct {
	// Source is rapl, or none where there are no counters.
	Source  string         `json:"source"`
	Domains []EnergyDomain `json:"domains,omitempty"`
}

// EnergyDomain is one counter of energy; it runs up and wraps around.
type EnergyDomain struct {
	Name string `json:"name"`
	// Microjoules used since some moment.
	Microjoules uint64 `json:"microjoules"`
	// RangeMicrojoules is where the counter wraps.
	RangeMicrojoules uint64 `json:"range_microjoules"`
}

// Milliwatts is the mean power between an earlier reading of the same machine
// and this one, ms milliseconds apart. ok is false where nothing can be said.
func (p Power) Milliwatts(earlier Power, ms int64) (mw uint64, ok bool) {
	if p.Source == "none" || ms <= 0 {
		return 0, false
	}
	var sum uint64
	for _, d := range p.Domains {
		for _, e := range earlier.Domains {
			if e.Name != d.Name {
				continue
			}
			used := d.Microjoules - e.Microjoules
			if d.Microjoules < e.Microjoules {
				if d.RangeMicrojoules < e.Microjoules {
					continue
				}
				used = d.RangeMicrojoules - e.Microjoules + d.Microjoules
			}
			sum += used
			ok = true
		}
	}
	return sum / uint64(ms), ok
}

// power reads the outermost powercap zones: inner ones are counted in them.
func (r *reader) power() Power {
	dir := filepath.Join(r.Sys, "class", "powercap")
	p := Power{Source: "none"}
	for _, zone := range entries(dir) {
		if strings.Count(zone, ":") != 1 {
			continue
		}
		energy, err := number(dir, zone, "energy_uj")
		if err != nil || energy < 0 {
			r.note("power: counter %s: %s", zone, missing(err))
			continue
		}
		name, err := file(dir, zone, "name")
		if err != nil {
			name = zone
		}
		p.Source = "rapl"
		p.Domains = append(p.Domains, EnergyDomain{name, uint64(energy), positive(dir, zone, "max_energy_range_uj")})
	}
	if p.Source == "none" {
		r.note("power: no energy counters here (usual on virtual machines), so power is unknown")
	}
	return p
}
