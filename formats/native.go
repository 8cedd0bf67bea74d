package formats

import (
	"path"
	"strings"
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/spec"
)

// draft is what the tasks are made from.
type draft struct {
	args, outputs []template
	env           []binding
	stdin         template
	inputs        []binding
	vars          []variable
}

// binding is NAME: VALUE, both templates.
type binding struct{ name, value template }

// maxDeadline bounds a job's wall time.
const maxDeadline = 90 * 24 * time.Hour

// native reads our own job file.
func (r *reader) native(root field) *Job {
	job := &Job{Format: "fallow", Limits: defaultLimits(), Checks: Checks{Mode: CheckAuto}}
	var d draft
	var hasOutputs bool
	r.fields(root, map[string]func(field){
		"name": func(f field) {
			if s, ok := r.text(f); ok {
				job.Name = s
				if err := spec.CheckName(s); err != nil {
					r.fail(f, "name it as film-2", "%v", err)
				}
			}
		},
		"module":    func(f field) { job.Module = r.hostFile(f) },
		"foreach":   func(f field) { d.vars = r.foreach(f) },
		"args":      func(f field) { d.args = r.texts(f, spec.MaxArgs) },
		"env":       func(f field) { d.env = r.bindings(f, spec.MaxEnv) },
		"stdin":     func(f field) { d.stdin = r.template(f) },
		"inputs":    func(f field) { d.inputs = r.bindings(f, spec.MaxInputs) },
		"outputs":   func(f field) { d.outputs = r.texts(f, spec.MaxOutputs); hasOutputs = true },
		"limits":    func(f field) { r.limits(f, &job.Limits) },
		"budget":    func(f field) { job.Budget, _ = r.credits(f) },
		"deadline":  func(f field) { job.Deadline, _ = r.duration(f, time.Second, maxDeadline) },
		"slots":     func(f field) { n, _ := r.number(f, plainUnits, 1, market.MaxSlots, "8"); job.Slots = uint32(n) },
		"checks":    func(f field) { r.checks(f, &job.Checks) },
		"placement": func(f field) { job.Placement = r.placement(f) },
		"collect":   func(f field) { job.Collect = r.collect(f) },
	})
	if len(r.errs) == 0 && job.Name == "" {
		r.fail(root, "add name: and a word for people", "name is missing")
	}
	if len(r.errs) == 0 && job.Module == "" {
		r.fail(root, "add module: and the path of a .wasm file", "module is missing")
	}
	if len(r.errs) > 0 {
		return nil
	}
	if len(d.args) == 0 {
		d.args = []template{{field: root, text: strings.ReplaceAll(job.Name, "$", "$$")}}
	}
	if !hasOutputs {
		d.outputs = []template{{field: root, text: "**"}}
	}
	job.Tasks = r.expand(d)
	return job
}

func (r *reader) template(f field) template {
	s, _ := r.text(f)
	return template{field: f, text: s}
}

func (r *reader) bindings(f field, most int) []binding {
	entries, ok := r.entries(f)
	if !ok {
		return nil
	}
	if len(entries) > most {
		r.fail(f, "", "%d entries, at most %d are read", len(entries), most)
		return nil
	}
	var out []binding
	for _, e := range entries {
		if e.value.node == nil {
			r.fail(e.name, "give it a value or remove it", "has no value")
			continue
		}
		if s, ok := r.text(e.value); ok {
			out = append(out, binding{name: template{field: e.name, text: e.key}, value: template{field: e.value, text: s}})
		}
	}
	return out
}

// hostFile reads a path without variables and looks whether it is there.
func (r *reader) hostFile(f field) string {
	s, ok := r.text(f)
	if ok && r.present(f, s) {
		return s
	}
	return ""
}

// present says whether the host has a regular file at p; each missing path is
// told once.
func (r *reader) present(f field, p string) bool {
	if p == "" || strings.ContainsRune(p, 0) || len(p) > 4096 {
		r.fail(f, "write the path of a file", "%.80q is not a path", p)
		return false
	}
	if r.host == nil {
		return true
	}
	if missing, known := r.missing[p]; known {
		return !missing
	}
	err := r.host.Check(p)
	r.missing[p] = err != nil
	if err != nil {
		r.fail(f, "paths are relative to the job file's folder", "%v", err)
	}
	return err == nil
}

func (r *reader) limits(f field, l *spec.Limits) {
	r.fields(f, map[string]func(field){
		"gas": func(f field) {
			if n, ok := r.number(f, gasUnits, 1, uint64(spec.MaxGas), "200G"); ok {
				l.Gas = fallow.Gas(n)
			}
		},
		"memory":  func(f field) { r.memory(f, l) },
		"output":  func(f field) { r.bytes(f, &l.OutputBytes, spec.MaxOutputBytes, "4MiB") },
		"scratch": func(f field) { r.bytes(f, &l.ScratchBytes, spec.MaxScratchBytes, "64MiB") },
		"stack": func(f field) {
			if n, ok := r.number(f, plainUnits, 1, spec.MaxStackDepth, "2097152"); ok {
				l.StackDepth = uint32(n)
			}
		},
		"wall": func(f field) {
			if d, ok := r.duration(f, time.Millisecond, spec.MaxWallMillis*time.Millisecond); ok {
				l.WallMillis = uint64(d.Milliseconds())
			}
		},
	})
}

// memory rounds up to whole pages, which is what a guest can be granted.
func (r *reader) memory(f field, l *spec.Limits) {
	if n, ok := r.number(f, byteUnits, 1, spec.MaxMemoryBytes, "256MiB"); ok {
		l.MemoryBytes = (n + spec.PageBytes - 1) / spec.PageBytes * spec.PageBytes
	}
}

func (r *reader) bytes(f field, into *uint64, high uint64, example string) {
	if n, ok := r.number(f, byteUnits, 0, high, example); ok {
		*into = n
	}
}

func (r *reader) checks(f field, c *Checks) {
	r.fields(f, map[string]func(field){
		"rate": func(f field) {
			c.Mode = CheckMode(r.oneOf(f, string(CheckAuto), string(CheckAlways), string(CheckNever)))
		},
		"minimum": func(f field) { c.MinimumPPM, _ = r.percent(f) },
		"where": func(f field) {
			c.Where = CheckWhere(r.oneOf(f, string(WhereOwn), string(WhereMarket), string(WhereBoth)))
		},
	})
	if c.Mode == CheckNever && c.MinimumPPM > 0 {
		r.fail(f, "write rate: auto with a minimum", "never and a minimum contradict each other")
	}
}

func (r *reader) oneOf(f field, words ...string) string {
	s, ok := r.text(f)
	if !ok {
		return words[0]
	}
	for _, w := range words {
		if s == w {
			return w
		}
	}
	r.fail(f, "write one of "+strings.Join(words, ", "), "%.40q is not known", s)
	return words[0]
}

func (r *reader) placement(f field) (p market.Placement) {
	words := func(into *[]string) func(field) {
		return func(f field) {
			for _, t := range r.texts(f, market.MaxPlaced) {
				*into = append(*into, t.text)
			}
		}
	}
	var providers, exclude []string
	r.fields(f, map[string]func(field){
		"regions":   words(&p.Regions),
		"providers": words(&providers),
		"exclude":   words(&exclude),
		"attributes": func(f field) {
			for _, b := range r.bindings(f, market.MaxAttributes) {
				p.Attributes = append(p.Attributes, market.Attribute{Key: b.name.text, Value: b.value.text})
			}
		},
	})
	for _, a := range providers {
		p.Providers = append(p.Providers, fallow.Account(a))
	}
	for _, a := range exclude {
		p.Excluded = append(p.Excluded, fallow.Account(a))
	}
	if err := p.Check(); err != nil && len(r.errs) == 0 {
		r.fail(f, "regions and attributes are short words, providers are fal1... addresses", "%v", err)
	}
	return p
}

func (r *reader) collect(f field) Collect {
	c := Collect{FPS: 12}
	r.fields(f, map[string]func(field){
		"frames": func(f field) {
			c.Frames, _ = r.text(f)
			if err := spec.CheckPattern(c.Frames); err != nil {
				r.fail(f, "write a pattern as frame-*.ppm", "%v", err)
			}
		},
		"fps":           func(f field) { n, _ := r.number(f, plainUnits, 1, 120, "12"); c.FPS = uint32(n) },
		"gif":           func(f field) { c.GIF = r.product(f, ".gif") },
		"mp4":           func(f field) { c.MP4 = r.product(f, ".mp4") },
		"contact_sheet": func(f field) { c.ContactSheet = r.product(f, ".png") },
	})
	if c.Frames == "" && len(r.errs) == 0 {
		r.fail(f, "add frames: with a pattern as frame-*.ppm", "frames is missing")
	}
	return c
}

func (r *reader) product(f field, ext string) string {
	s, ok := r.text(f)
	if ok && path.Ext(s) != ext {
		r.fail(f, "write a path that ends in "+ext, "%.80q is not a path of a %s file", s, ext)
	}
	return s
}

// expand makes the tasks.
func (r *reader) expand(d draft) []Task {
	values, labels := rows(d.vars)
	var tasks []Task
	total := 0
	for i, row := range values {
		t, size := r.task(d, row)
		if len(r.errs) > 0 {
			return nil
		}
		t.Label = labels[i]
		total += size
		if total > MaxExpandedBytes {
			r.at(1, 1, "foreach", "split the job", "its tasks hold more than %d bytes of text", MaxExpandedBytes)
			return nil
		}
		tasks = append(tasks, t)
	}
	return tasks
}

func (r *reader) task(d draft, values row) (t Task, size int) {
	fill := func(tmpl template) string {
		s, _ := r.fill(tmpl, values)
		size += len(s) + 16
		if len(s) > spec.MaxArgBytes {
			r.fail(tmpl.field, "put it into an input file", "%d bytes, at most %d are allowed", len(s), spec.MaxArgBytes)
			return ""
		}
		return s
	}
	for _, a := range d.args {
		t.Args = append(t.Args, fill(a))
	}
	for _, e := range d.env {
		v := fill(e.name) + "=" + fill(e.value)
		if err := spec.CheckEnv(v); err != nil {
			r.fail(e.name.field, "name it as MODE_2", "%v", err)
		}
		t.Env = append(t.Env, v)
	}
	if d.stdin.text != "" {
		t.Stdin = fill(d.stdin)
		r.present(d.stdin.field, t.Stdin)
	}
	for _, in := range d.inputs {
		p := fill(in.name)
		file := fill(in.value)
		if err := spec.CheckPath(p); err != nil {
			r.fail(in.name.field, "write where the guest reads it below /in, as scene/teapot.txt", "%v", err)
		}
		r.present(in.value.field, file)
		t.Inputs = append(t.Inputs, Input{Path: p, File: file})
	}
	for _, o := range d.outputs {
		p := fill(o)
		if err := spec.CheckPattern(p); err != nil {
			r.fail(o.field, "write a pattern below /out, as frame-*.ppm", "%v", err)
		}
		t.Outputs = append(t.Outputs, p)
	}
	return t, size
}
