package formats

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"fallow.network/spec"
)

// source is a Bacalhau InputSource.
type source struct {
	field  field
	alias  string
	target string
	file   string // host path
}

// ourPath puts our guest folders where a value begins with Bacalhau's usual
// ones, or has them behind an equals sign.
func ourPath(s string) string {
	before, value, assigned := strings.Cut(s, "=")
	if !assigned {
		before, value = "", s
	} else {
		before += "="
	}
	for _, m := range [][2]string{{theirInputs, ourInputs}, {theirOutputs, ourOutputs}} {
		if value == m[0] || strings.HasPrefix(value, m[0]+"/") {
			value = m[1] + value[len(m[0]):]
		}
	}
	return before + value
}

func (r *reader) sources(f field) (out []source) {
	list, _ := r.list(f, spec.MaxInputs)
	for _, one := range list {
		s := r.source(one)
		if s.file == "" {
			continue
		}
		if s.target == "" && s.alias == "" {
			r.fail(one, "write Target: /inputs/NAME", "Target is missing")
			continue
		}
		r.present(one, s.file)
		out = append(out, s)
	}
	return out
}

func (r *reader) source(f field) (s source) {
	s.field = f
	var kind string
	var kindAt, params field
	r.fields(f, map[string]func(field){
		"Alias":  func(f field) { s.alias, _ = r.text(f) },
		"Target": func(f field) { s.target, _ = r.text(f) },
		"Source": func(f field) {
			r.fields(f, map[string]func(field){
				"Type":   func(f field) { kind, _ = r.text(f); kindAt = f },
				"Params": func(f field) { params = f },
			})
		},
	})
	if len(r.errs) > 0 {
		return s
	}
	if kind == "" || params.node == nil {
		r.fail(f, "write Source: {Type: local, Params: {SourcePath: FILE}}", "has no source")
		return s
	}
	if !strings.EqualFold(kind, "local") && !strings.EqualFold(kind, "localDirectory") {
		r.fail(kindAt, "download it and write Type: local with SourcePath", "a source of type %.40q is not fetched here", kind)
		return s
	}
	path := func(f field) { s.file, _ = r.text(f) }
	r.fields(params, map[string]func(field){
		"SourcePath": path,
		"Path":       path,
		"CreateAs":   func(f field) { r.note(f, "has no meaning here") },
		"ReadWrite": func(f field) {
			if b, ok := f.node.(*ast.BoolNode); !ok || b.Value {
				r.fail(f, "write outputs below /outputs", "inputs are read-only")
			}
		},
	})
	if s.file == "" && len(r.errs) == 0 {
		r.fail(params, "name the file on this machine", "SourcePath is missing")
	}
	return s
}

func (r *reader) variables(f field) map[string]string {
	out := map[string]string{}
	for _, b := range r.bindings(f, spec.MaxEnv) {
		if err := spec.CheckEnv(b.name.text + "="); err != nil {
			r.fail(b.name.field, "name it as MODE_2", "%v", err)
		}
		if strings.HasPrefix(b.value.text, "env:") {
			r.fail(b.value.field, "write the value itself", "variables of the provider's machine are not passed on")
		}
		out[b.name.text] = b.value.text
	}
	return out
}

func (r *reader) resources(f field, l *spec.Limits) {
	r.fields(f, map[string]func(field){
		"CPU": func(f field) {
			if _, ok := r.text(f); ok {
				r.note(f, "has no meaning here: a task runs on one core")
			}
		},
		"Memory": func(f field) {
			if n, ok := r.humanBytes(f, spec.MaxMemoryBytes); ok {
				l.MemoryBytes = max((n+spec.PageBytes-1)/spec.PageBytes, 1) * spec.PageBytes
			}
		},
		"Disk": func(f field) {
			if n, ok := r.humanBytes(f, spec.MaxScratchBytes); ok {
				l.ScratchBytes = n
			}
		},
		"GPU": func(f field) {
			if s, ok := r.text(f); ok && s != "0" && s != "" {
				r.fail(f, "remove GPU", "WASM tasks have no GPU")
			}
		},
	})
}

var humanSize = regexp.MustCompile(`^(\d{1,15})(?:\.(\d{1,6}))?\s*([kmgt]?)(i?)b?$`)

// humanBytes reads sizes as Bacalhau does: 512MB, 1.5Gb, 1GiB, in any case.
func (r *reader) humanBytes(f field, high uint64) (uint64, bool) {
	s, ok := r.text(f)
	if !ok {
		return 0, false
	}
	m := humanSize.FindStringSubmatch(strings.ToLower(strings.TrimSpace(s)))
	if m == nil {
		r.fail(f, "write a size, as 512MB", "%.60q is no size", s)
		return 0, false
	}
	base := 1000.0
	if m[4] == "i" {
		base = 1024
	}
	n, err := strconv.ParseFloat(m[1]+"."+m[2]+"0", 64)
	v := n * math.Pow(base, float64(strings.Index(" kmgt", m[3])))
	if err != nil || v > float64(high) {
		r.fail(f, fmt.Sprintf("write at most %d bytes", high), "%.60q is too large", s)
		return 0, false
	}
	return uint64(v), true
}

func (r *reader) timeouts(f field, job *Job) {
	seconds := func(f field, high time.Duration) time.Duration {
		n, _ := r.number(f, plainUnits, 0, uint64(high/time.Second), "600")
		return time.Duration(n) * time.Second
	}
	r.fields(f, map[string]func(field){
		"ExecutionTimeout": func(f field) {
			if d := seconds(f, spec.MaxWallMillis*time.Millisecond); d > 0 {
				job.Limits.WallMillis = uint64(d.Milliseconds())
			}
		},
		"TotalTimeout": func(f field) { job.Deadline = seconds(f, maxDeadline) },
		"QueueTimeout": func(f field) { r.note(f, "has no meaning here") },
	})
}
