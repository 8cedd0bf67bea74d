package formats

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"fallow.network/spec"
)

// template is a text of the file that may hold ${name}.
type template struct {
	field field
	text  string
}

// variable is a name under foreach with its values.
type variable struct {
	name   string
	values []string
	// files says that values are paths: ${name.base} and ${name.stem} stand
	// beside ${name}.
	files bool
}

// foreach reads the variables; the product of their values is the tasks.
func (r *reader) foreach(f field) []variable {
	entries, ok := r.entries(f)
	if !ok {
		return nil
	}
	if len(entries) > MaxVariables {
		r.fail(f, "put several values into one list", "%d variables, at most %d are read", len(entries), MaxVariables)
		return nil
	}
	var out []variable
	total := 1
	for _, e := range entries {
		if !isName(e.key) || e.key == "task" {
			r.fail(e.name, "name it with letters, digits and '_'; task is taken", "not a variable's name")
			continue
		}
		v, ok := r.values(e)
		if !ok {
			continue
		}
		total *= len(v.values)
		if total > spec.MaxTasks {
			r.fail(e.value, "split the job", "more than %d tasks", spec.MaxTasks)
			return nil
		}
		out = append(out, v)
	}
	return out
}

func (r *reader) values(e entry) (v variable, ok bool) {
	v.name = e.key
	switch n := e.value.node.(type) {
	case *ast.SequenceNode:
		elements, ok := r.list(e.value, spec.MaxTasks)
		if !ok {
			return v, false
		}
		for _, el := range elements {
			s, ok := r.text(el)
			if !ok {
				return v, false
			}
			v.values = append(v.values, s)
		}
		if len(v.values) == 0 {
			r.fail(e.value, "list one value at least", "an empty list makes no tasks")
			return v, false
		}
		return v, true
	case *ast.MappingNode:
		var pattern string
		var at field
		before := len(r.errs)
		r.fields(e.value, map[string]func(field){"files": func(f field) { pattern, _ = r.text(f); at = f }})
		if len(r.errs) > before {
			return v, false
		}
		if pattern == "" {
			r.fail(e.value, `write {files: "photos/*.png"}`, "names no files")
			return v, false
		}
		v.files = true
		v.values, ok = r.glob(at, pattern)
		return v, ok
	case nil:
		r.fail(e.name, "write a range as 0..47, a list as [a, b], or {files: \"*.png\"}", "has no value")
		return v, false
	default:
		s, ok := r.text(field{node: n, path: e.value.path})
		if !ok {
			return v, false
		}
		v.values, ok = r.span(e.value, s)
		return v, ok
	}
}

// span reads a range: FROM..TO or FROM..TO..STEP, both ends included. A zero
// in front of FROM pads all values to its width.
func (r *reader) span(f field, s string) ([]string, bool) {
	const hint = "write a range as 0..47 or 0..100..5, or a list as [a, b]"
	parts := strings.Split(s, "..")
	if len(parts) != 2 && len(parts) != 3 {
		r.fail(f, hint, "%.60q is not a range", s)
		return nil, false
	}
	var n [3]int64
	n[2] = 1
	for i, p := range parts {
		v, err := strconv.ParseInt(p, 10, 64)
		if err != nil || v < -1e15 || v > 1e15 || strings.HasPrefix(p, "+") {
			r.fail(f, hint, "%.60q is not a whole number between -10^15 and 10^15", p)
			return nil, false
		}
		n[i] = v
	}
	from, to, step := n[0], n[1], n[2]
	switch {
	case step < 1:
		r.fail(f, hint, "a step of %d", step)
		return nil, false
	case to < from:
		r.fail(f, "write the smaller end first", "the range %.60q is empty", s)
		return nil, false
	case (to-from)/step >= spec.MaxTasks:
		r.fail(f, "split the job", "more than %d values", spec.MaxTasks)
		return nil, false
	}
	width := 0
	if p := strings.TrimPrefix(parts[0], "-"); len(p) > 1 && p[0] == '0' {
		width = len(parts[0])
		if width > 20 {
			r.fail(f, hint, "%.60q has too many digits", parts[0])
			return nil, false
		}
	}
	var out []string
	for v := from; v <= to; v += step {
		out = append(out, fmt.Sprintf("%0*d", width, v))
	}
	return out, true
}

func (r *reader) glob(f field, pattern string) ([]string, bool) {
	if _, err := path.Match(pattern, "x"); err != nil {
		r.fail(f, "write a pattern as photos/*.png", "%.80q: %v", pattern, err)
		return nil, false
	}
	if r.host == nil {
		r.fail(f, "list the files as [a.png, b.png]", "no files can be looked up here")
		return nil, false
	}
	files, err := r.host.Glob(pattern)
	switch {
	case err != nil:
		r.fail(f, "", "%.80q: %v", pattern, err)
	case len(files) == 0:
		r.fail(f, "put files there or mend the pattern", "%.80q matches no file", pattern)
	case len(files) > spec.MaxTasks:
		r.fail(f, "split the job", "%.80q matches %d files, at most %d are read", pattern, len(files), spec.MaxTasks)
	default:
		return files, true
	}
	return nil, false
}

// row is one task's values by variable name.
type row map[string]string

// rows is the product of all values; the last variable changes fastest.
func rows(vars []variable) (out []row, labels []string) {
	total := 1
	for _, v := range vars {
		total *= len(v.values)
	}
	for i := range total {
		values := row{"task": strconv.Itoa(i)}
		label := make([]string, len(vars))
		rest := i
		for k := len(vars) - 1; k >= 0; k-- {
			v := vars[k]
			s := v.values[rest%len(v.values)]
			rest /= len(v.values)
			values[v.name] = s
			label[k] = v.name + "=" + s
			if v.files {
				base := path.Base(s)
				values[v.name+".base"] = base
				values[v.name+".stem"] = strings.TrimSuffix(base, path.Ext(base))
			}
		}
		out = append(out, values)
		labels = append(labels, strings.Join(label, " "))
	}
	return out, labels
}

// fill puts values into t: ${name} by its value, $$ by one dollar.
func (r *reader) fill(t template, values row) (string, bool) {
	s := t.text
	if !strings.Contains(s, "$") {
		return s, true
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		switch {
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			s = after[1:]
		case strings.HasPrefix(after, "{"):
			name, rest, closed := strings.Cut(after[1:], "}")
			v, known := values[name]
			if !closed || !known {
				r.fail(t.field, "known here: "+strings.Join(placeholders(values), ", ")+"; $$ is a plain dollar", "${%.40s} is no variable", name)
				return "", false
			}
			b.WriteString(v)
			s = rest
		default:
			r.fail(t.field, "write ${name} for a variable, $$ for a dollar", "a single $")
			return "", false
		}
	}
}

func placeholders(values row) []string {
	known := map[string]func(field){}
	for k := range values {
		known["${"+k+"}"] = nil
	}
	return names(known)
}

func isName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
