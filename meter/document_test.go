package meter

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// document is the part of docs/gas-schedule.md that the code decides.
func document() string {
	by := map[int][]string{}
	add := func(table []op) {
		for _, o := range table {
			if o.name != "" {
				name := strings.TrimSuffix(o.name, ".typed")
				by[int(o.cost)] = append(by[int(o.cost)], "`"+name+"`")
			}
		}
	}
	add(coreOps[:])
	add(bulkOps[:])
	add(simdOps[:])
	var b strings.Builder
	b.WriteString("| gas | instructions |\n|---|---|\n")
	costs := make([]int, 0, len(by))
	for c := range by {
		costs = append(costs, c)
	}
	slices.Sort(costs)
	for _, c := range costs {
		fmt.Fprintf(&b, "| %d | %s |\n", c, strings.Join(slices.Compact(by[c]), " "))
	}
	b.WriteString("\n## Host functions of wasi_snapshot_preview1\n\n| gas | functions | and by length |\n|---|---|---|\n")
	hosts := map[string][]string{}
	keys := []string{}
	for _, h := range Hosts {
		k := fmt.Sprintf("%06d %t", h.Cost, h.Bytes)
		if hosts[k] == nil {
			keys = append(keys, k)
		}
		hosts[k] = append(hosts[k], "`"+h.Name+"`")
	}
	slices.Sort(keys)
	for _, k := range keys {
		cost, length, _ := strings.Cut(k, " ")
		n, _ := strconv.Atoi(cost)
		yes := map[string]string{"true": "yes", "false": ""}[length]
		fmt.Fprintf(&b, "| %d | %s | %s |\n", n, strings.Join(hosts[k], " "), yes)
	}
	return b.String()
}

// TestDocument holds the written schedule to the code. After a change of the
// schedule, and a new id for it, FALLOW_WRITE=1 writes the tables.
func TestDocument(t *testing.T) {
	const file = "../docs/gas-schedule.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, tables, ok := strings.Cut(string(b), "## Instructions\n\n")
	if !ok {
		t.Fatalf("%s has no heading for the instructions", file)
	}
	if want := document(); tables != want {
		if os.Getenv("FALLOW_WRITE") != "" {
			if err := os.WriteFile(file, []byte(head+"## Instructions\n\n"+want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		t.Errorf("the tables of %s are not those of the code", file)
	}
	for _, say := range []string{
		"# Gas schedule " + ScheduleID + "\n",
		fmt.Sprintf("quanta of %s gas", thousands(Quantum)),
		fmt.Sprintf("| %s for each page asked for", thousands(GasPerPage)),
		fmt.Sprintf("1 for each %d bytes, rounded down", 1<<BulkShift),
		fmt.Sprintf("%d for each byte of a path, %d for each vector, %d for each entry", GasPerPathByte, GasPerVector, GasPerEntry),
		fmt.Sprintf("%d for each byte of `random_get`, %d for each subscription", GasPerRandomByte, GasPerSubscription),
		fmt.Sprintf("%d slots, and 1 for each parameter", FrameSlots),
		fmt.Sprintf("for each %d bytes of its body", BodySlot),
		fmt.Sprintf("%s slots unless it asks", thousands(DefaultStackSlots)),
		fmt.Sprintf("Tables end at %s elements", thousands(MaxTableElems)),
	} {
		if !strings.Contains(head, say) {
			t.Errorf("%s does not say %q", file, say)
		}
	}
}

func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// TestTable holds the rows to what the checker reads in them.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, table := range [][]op{coreOps[:], bulkOps[:], simdOps[:]} {
		for i, o := range table {
			if o.name == "" {
				continue
			}
			if seen[o.name] {
				t.Errorf("%s stands twice", o.name)
			}
			seen[o.name] = true
			if o.sig == "" {
				continue
			}
			in, out, ok := strings.Cut(o.sig, ":")
			if !ok || len(out) > 1 || len(in) > 3 || strings.Trim(in+out, "iIfFv") != "" {
				t.Errorf("%s (0x%02x): signature %q", o.name, i, o.sig)
			}
			makes := o.nan&makes4 != 0 || o.nan&makes8 != 0
			if makes && strings.Trim(out, "fFv") != "" || o.nan&sign != 0 && len(in) != 2 {
				t.Errorf("%s (0x%02x): flags %b don't fit its signature", o.name, i, o.nan)
			}
		}
	}
	if len(seen) < 430 {
		t.Errorf("only %d instructions", len(seen))
	}
}
