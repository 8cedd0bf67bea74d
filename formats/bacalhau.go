package formats

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"fallow.network/market"
	"fallow.network/spec"
)

// isBacalhau says whether root is Bacalhau's job and not ours: ours has no
// tasks and no spec.
func isBacalhau(root field) bool {
	m, ok := root.node.(*ast.MappingNode)
	if !ok {
		return false
	}
	for _, v := range m.Values {
		if k, ok := v.Key.(*ast.StringNode); ok {
			switch strings.ToLower(k.Value) {
			case "tasks", "spec", "apiversion":
				return true
			}
		}
	}
	return false
}

// Guest folders of Bacalhau's usage and of ours.
const (
	theirInputs, theirOutputs = "/inputs", "/outputs"
	ourInputs, ourOutputs     = "/in", "/out"
)

// bacalhau reads a Bacalhau v1 job whose engine is WASM. What maps: name,
// count (as partitions), constraints by equality, one task's module,
// parameters, variables, local inputs, result paths, memory, disk and
// timeouts. The rest is refused, or noted where it changes no result.
func (r *reader) bacalhau(root field) *Job {
	r.fold = true
	job := &Job{Format: "bacalhau", Limits: defaultLimits(), Checks: Checks{Mode: CheckAuto}}
	count := uint64(1)
	var task field
	note := func(text string) func(field) { return func(f field) { r.note(f, text) } }
	r.fields(root, map[string]func(field){
		"APIVersion": func(f field) { r.fail(f, "write the v1 form, with Tasks", "the v1beta1 form is not read") },
		"Spec":       func(f field) { r.fail(f, "write the v1 form, with Tasks", "the v1beta1 form is not read") },
		"Name":       func(f field) { job.Name = r.bacalhauName(f) },
		"Type": func(f field) {
			if s, ok := r.text(f); ok && !strings.EqualFold(s, "batch") {
				r.fail(f, "write Type: batch", "jobs of type %.40q don't run here", s)
			}
		},
		"Count":       func(f field) { count, _ = r.number(f, plainUnits, 1, spec.MaxTasks, "8") },
		"Constraints": func(f field) { job.Placement = r.constraints(f) },
		"Tasks": func(f field) {
			list, ok := r.list(f, 64)
			if ok && len(list) != 1 {
				r.fail(f, "write one job file for each", "%d tasks: want exactly one", len(list))
			} else if ok {
				task = list[0]
			}
		},
		"Namespace": note("has no meaning here"),
		"Priority":  note("has no meaning here"),
		"Meta":      note("is not kept"),
		"Labels":    note("are not kept"),
		"ID":        note("is given by the client"),
		"Version":   note("has no meaning here"),
	})
	if task.node == nil {
		if len(r.errs) == 0 {
			r.fail(root, "add Tasks: with one task", "Tasks is missing")
		}
		return nil
	}
	one := r.bacalhauTask(task, job)
	if len(r.errs) > 0 {
		return nil
	}
	if job.Name == "" {
		job.Name = "job"
	}
	if len(one.Args)+1 > spec.MaxArgs || count*uint64(len(one.Args)+len(one.Env)+4)*64 > MaxExpandedBytes {
		r.fail(root, "lower Count", "%d tasks of that size are more than one job may hold", count)
		return nil
	}
	for i := range count {
		t := one
		if count > 1 {
			// As Bacalhau's partitions see themselves.
			t.Label = fmt.Sprintf("partition=%d", i)
			t.Env = append(append([]string{}, one.Env...),
				"BACALHAU_PARTITION_INDEX="+strconv.FormatUint(i, 10),
				"BACALHAU_PARTITION_COUNT="+strconv.FormatUint(count, 10))
		}
		job.Tasks = append(job.Tasks, t)
	}
	job.Notes = r.notes
	return job
}

func (r *reader) note(f field, text string) {
	if len(r.notes) < MaxErrors {
		line, _ := position(f.node)
		r.notes = append(r.notes, fmt.Sprintf("%s:%d: %s %s", r.file, line, f.path, text))
	}
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// bacalhauName makes a name of ours from one that may hold anything.
func (r *reader) bacalhauName(f field) string {
	s, ok := r.text(f)
	if !ok {
		return ""
	}
	name := strings.Trim(notInName.ReplaceAllString(s, "-"), "._-")
	if len(name) > spec.MaxNameBytes {
		name = strings.Trim(name[:spec.MaxNameBytes], "._-")
	}
	if name == "" {
		r.fail(f, "use letters and digits", "%.80q is no name", s)
	} else if name != s {
		r.note(f, "is read as "+name)
	}
	return name
}

func (r *reader) constraints(f field) (p market.Placement) {
	list, _ := r.list(f, market.MaxAttributes)
	for _, c := range list {
		var key, operator string
		var values []template
		r.fields(c, map[string]func(field){
			"Key":      func(f field) { key, _ = r.text(f) },
			"Operator": func(f field) { operator, _ = r.text(f) },
			"Values":   func(f field) { values = r.texts(f, market.MaxAttributes) },
		})
		equal := operator == "=" || operator == "==" || strings.EqualFold(operator, "in")
		switch {
		case !equal:
			r.fail(c, "use Operator: = with one value", "operator %.20q does not map", operator)
		case strings.EqualFold(key, "region") && len(values) > 0:
			for _, v := range values {
				p.Regions = append(p.Regions, v.text)
			}
		case len(values) != 1:
			r.fail(c, "name one value", "%d values: only a region may be one of several", len(values))
		default:
			p.Attributes = append(p.Attributes, market.Attribute{Key: key, Value: values[0].text})
		}
	}
	if err := p.Check(); err != nil && len(r.errs) == 0 {
		r.fail(f, "keys and values are short words", "%v", err)
	}
	return p
}

func (r *reader) bacalhauTask(f field, job *Job) (t Task) {
	var engine, params field
	var sources []source
	var env map[string]string
	t.Outputs = nil
	r.fields(f, map[string]func(field){
		"Name": func(f field) { _, _ = r.text(f) },
		"Engine": func(f field) {
			engine = f
			params = r.engine(f)
		},
		"Publisher":    r.publisher,
		"Env":          func(f field) { env = r.variables(f) },
		"Meta":         func(f field) { r.note(f, "is not kept") },
		"InputSources": func(f field) { sources = r.sources(f) },
		"ResultPaths":  func(f field) { t.Outputs = r.results(f) },
		"Resources":    func(f field) { r.resources(f, &job.Limits) },
		"Network":      r.network,
		"Timeouts":     func(f field) { r.timeouts(f, job) },
	})
	if engine.node == nil && len(r.errs) == 0 {
		r.fail(f, "add Engine: with Type: wasm", "Engine is missing")
	}
	if t.Outputs == nil {
		t.Outputs = []string{"**"}
	}
	if params.node == nil {
		return t
	}
	r.params(params, job, &t, sources, env)
	return t
}

func (r *reader) engine(f field) (params field) {
	var kind string
	r.fields(f, map[string]func(field){
		"Type": func(f field) {
			kind, _ = r.text(f)
			if !strings.EqualFold(kind, "wasm") {
				r.fail(f, "build the program for WASI and write Type: wasm", "engine %.40q does not run here", kind)
			}
		},
		"Params": func(f field) { params = f },
	})
	if kind == "" && len(r.errs) == 0 {
		r.fail(f, "write Type: wasm", "Engine.Type is missing")
	}
	if params.node == nil && len(r.errs) == 0 {
		r.fail(f, "add Params: with EntryModule", "Engine.Params is missing")
	}
	return params
}

func (r *reader) params(f field, job *Job, t *Task, sources []source, env map[string]string) {
	entry := func(f field) {
		if s, ok := r.text(f); ok && s != "_start" {
			r.fail(f, "export the program as a WASI command and remove this", "entry point %.60q: only _start runs", s)
		}
	}
	entryModule := ""
	var moduleField field
	more := map[string]string{}
	r.fields(f, map[string]func(field){
		"EntryModule": func(f field) {
			moduleField = f
			if _, mapping := f.node.(*ast.MappingNode); mapping {
				entryModule = r.source(f).file
				return
			}
			entryModule, _ = r.text(f)
			entryModule = r.resolve(f, entryModule, sources)
		},
		"EntryPoint": entry,
		"Parameters": func(f field) {
			for _, a := range r.texts(f, spec.MaxArgs) {
				t.Args = append(t.Args, ourPath(a.text))
			}
		},
		"EnvironmentVariables": func(f field) { more = r.variables(f) },
		"ImportModules": func(f field) {
			if list, ok := r.list(f, 64); ok && len(list) > 0 {
				r.fail(f, "link them into one module", "modules that import each other don't run here")
			}
		},
	})
	if entryModule == "" {
		if len(r.errs) == 0 {
			r.fail(f, "add EntryModule: with a local Source", "EntryModule is missing")
		}
		return
	}
	if r.present(moduleField, entryModule) {
		job.Module = entryModule
	}
	t.Args = append([]string{path.Base(entryModule)}, t.Args...)
	for k, v := range env {
		more[k] = v
	}
	known := map[string]func(field){}
	for k := range more {
		known[k] = nil
	}
	for _, k := range names(known) {
		t.Env = append(t.Env, k+"="+ourPath(more[k]))
	}
	for _, s := range sources {
		if s.file == entryModule && s.target == "" {
			continue
		}
		p, ok := strings.CutPrefix(ourPath(s.target), ourInputs+"/")
		if !ok || spec.CheckPath(p) != nil {
			r.fail(s.field, "write Target: /inputs/NAME", "target %.80q: a file lies below /inputs here", s.target)
			continue
		}
		if strings.HasPrefix(s.target, theirInputs) {
			r.note(s.field, "is read by the guest at "+ourInputs+"/"+p)
		}
		t.Inputs = append(t.Inputs, Input{Path: p, File: s.file})
	}
}

// resolve finds the module that newer jobs name by the alias or target of an
// input; any other name is a host path.
func (r *reader) resolve(_ field, name string, sources []source) string {
	for _, s := range sources {
		if name != "" && (s.alias == name || s.target == name) {
			return s.file
		}
	}
	return name
}

func (r *reader) results(f field) (patterns []string) {
	list, _ := r.list(f, spec.MaxOutputs)
	for _, one := range list {
		var p string
		r.fields(one, map[string]func(field){
			"Name": func(f field) { _, _ = r.text(f) },
			"Path": func(f field) { p, _ = r.text(f) },
		})
		p = strings.TrimSuffix(ourPath(p), "/")
		rest, ok := strings.CutPrefix(p+"/", ourOutputs+"/")
		pattern := rest + "**"
		if !ok || spec.CheckPattern(pattern) != nil {
			r.fail(one, "write Path: /outputs", "results lie below /outputs here, not at %.80q", p)
			continue
		}
		patterns = append(patterns, pattern)
	}
	return patterns
}

func (r *reader) publisher(f field) {
	var kind string
	r.fields(f, map[string]func(field){
		"Type":   func(f field) { kind, _ = r.text(f) },
		"Params": func(field) {},
	})
	switch strings.ToLower(kind) {
	case "", "noop", "local":
		r.note(f, "has no meaning here: outputs come to the folder named by --out")
	default:
		r.fail(f, "remove Publisher: outputs come to the folder named by --out", "publisher %.40q is not offered", kind)
	}
}

func (r *reader) network(f field) {
	r.fields(f, map[string]func(field){
		"Type": func(f field) {
			if s, ok := r.text(f); ok && !strings.EqualFold(s, "none") {
				r.fail(f, "fetch the data first and list it under InputSources", "a WASM task has no network here, and this asks for %.20q", s)
			}
		},
		"Domains": func(f field) { r.note(f, "has no meaning here") },
	})
}
