package conformance

import (
	"strings"

	"fallow.network/receipt"
)

// Case is one run of a guest.
type Case struct {
	Name   string
	Module string // of testdata, without .wasm
	Args   []string
	Env    []string
	Stdin  string
	Files  map[string]string // by path below /in
	Seed   string            // behind the suite's own, of whose beginning it takes the place
	Limits receipt.Limits    // zeros get defaults
}

// defaults are small, so that what is exceeded is soon exceeded.
func (c Case) limits() receipt.Limits {
	l := c.Limits
	def := func(v *uint64, d uint64) {
		if *v == 0 {
			*v = d
		}
	}
	if l.Gas == 0 {
		l.Gas = 50_000_000
	}
	def(&l.Memory, 16<<20)
	def(&l.Output, 1<<20)
	def(&l.Scratch, 1<<20)
	return l
}

// Cases are all cases, in order.
func Cases() []Case {
	input := map[string]string{"a.txt": "first\nsecond\n", "dir/b": strings.Repeat("0123456789", 1000), "dir/deep/c": "c"}
	probe := func(name string, args ...string) Case {
		return Case{Name: name, Module: "probe", Args: append([]string{"probe"}, args...)}
	}
	with := func(c Case, change func(*Case)) Case {
		change(&c)
		return c
	}
	list := []Case{
		with(probe("arguments", "args", "", "two words", "ü"), func(c *Case) { c.Env = []string{"B=2", "A=1", "EMPTY="} }),
		with(probe("no arguments"), func(c *Case) { c.Args = nil }),
		probe("exit code", "exit", "77"),
		with(probe("stdin", "echo"), func(c *Case) { c.Stdin = strings.Repeat("line\n", 500) }),
		probe("no stdin", "echo"),
		with(probe("copy", "copy", "/in/dir/b", "/out/sub"), func(c *Case) { c.Files = input }),
		with(probe("folders", "list", "/"), func(c *Case) { c.Files = input }),
		probe("clock", "clock"),
		probe("random", "random"),
		probe("scratch", "scratch"),
		with(probe("escape", "escape"), func(c *Case) { c.Files = input }),
		probe("nan", "nan"),
		probe("output in full", "fill", "/out/x", "1048000"),
		probe("output limit", "fill", "/out/x", "2000000"),
		probe("scratch limit", "fill", "/scratch/x", "2000000"),
		with(probe("large output", "fill", "/out/x", "3000000"), func(c *Case) { c.Limits.Output = 4 << 20 }),
		with(probe("large scratch", "fill", "/scratch/x", "3000000"), func(c *Case) { c.Limits.Scratch = 4 << 20 }),
		probe("stdout without end", "flood"),
		with(probe("stdout without end, little gas", "flood"), func(c *Case) { c.Limits.Gas = 1_000_000 }),
		probe("endless loop", "spin"),
		with(probe("endless recursion", "deep"), func(c *Case) { c.Limits.StackDepth = 20_000 }),
		probe("memory without end", "grow"),
		with(probe("more memory without end", "grow"), func(c *Case) { c.Limits.Memory = 40 << 20 }),
		probe("wild pointer", "wild"),
		probe("abort", "abort"),
		with(probe("files without end", "files"), func(c *Case) { c.Limits.Gas = 20_000_000_000 }),
		{Name: "start function", Module: "start"},
		{Name: "endless start function", Module: "startspin"},
		{Name: "memory by pages", Module: "grow", Limits: receipt.Limits{Memory: 10 << 16}},
		{Name: "pointers out of bounds", Module: "pointers"},
		{Name: "unknown host", Module: "env"},
		{Name: "no command", Module: "library"},
		{Name: "too little memory", Module: "probe", Limits: receipt.Limits{Memory: 1 << 16}},
		{Name: "hardly any gas", Module: "probe", Limits: receipt.Limits{Gas: 10}},
	}
	files := func(name string, args ...string) Case {
		return Case{Name: name, Module: "files", Args: append([]string{"files"}, args...)}
	}
	list = append(
		list,
		with(probe("random of another seed", "random"), func(c *Case) { c.Seed = "another" }),
		with(probe("more gas than it needs", "exit", "0"), func(c *Case) { c.Limits.Gas = 1 << 61 }),
		probe("exit code 255", "exit", "255"),
		probe("exit code 256", "exit", "256"),
		probe("exit code below zero", "exit", "-1"),
		files("listing", "listing"),
		files("nested outputs", "nested"),
		files("names", "names"),
		files("outputs without end", "many", "/out"),
		with(files("scratch files without end", "many", "/scratch"), func(c *Case) { c.Limits.Gas = 1e9 }),
		files("descriptors", "descriptors"),
		with(files("streams", "streams"), func(c *Case) { c.Stdin = "first\nsecond\nthird" }),
		files("times", "times"),
		with(files("spilled files", "spill"), func(c *Case) { c.Limits.Scratch, c.Limits.Output, c.Limits.Gas = 4<<20, 4<<20, 1e9 }),
	)
	for i, trap := range []string{
		"unreachable", "out of bounds", "divide by zero", "division overflows", "nan to integer", "negative to unsigned",
		"no such element", "null element", "type of element",
	} {
		list = append(list, Case{Name: "trap: " + trap, Module: "traps", Args: []string{strings.Repeat("x", i)}})
	}
	return list
}
