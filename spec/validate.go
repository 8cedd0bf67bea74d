package spec

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"fallow.network"
)

// FieldError says which field of a workload is wrong, and how.
type FieldError struct {
	// Field is a path such as tasks[3].inputs[0].path.
	Field   string
	Problem string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

func wrong(field, format string, a ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, a...)}
}

// Validate says whether w is a workload in canonical order and within bounds.
// Its error is a *FieldError.
func Validate(w Workload) error {
	if err := CheckName(w.Name); err != nil {
		return wrong("name", "%v", err)
	}
	if w.Class != fallow.ClassWASM {
		return wrong("class", "%.40q: want %q", string(w.Class), string(fallow.ClassWASM))
	}
	if w.Profile != ProfileWASM {
		return wrong("profile", "%.40q: want %q", w.Profile, ProfileWASM)
	}
	if err := checkBlob("module", w.Module, MaxModuleBytes); err != nil {
		return err
	}
	if w.Module.Size == 0 {
		return wrong("module.size", "an empty file is not a WASM module")
	}
	if err := CheckLimits(w.Limits); err != nil {
		return err
	}
	if len(w.Tasks) == 0 {
		return wrong("tasks", "there are none: want 1 to %d", MaxTasks)
	}
	if len(w.Tasks) > MaxTasks {
		return wrong("tasks", "%d of them: want at most %d", len(w.Tasks), MaxTasks)
	}
	for i, t := range w.Tasks {
		if t.Index != uint32(i) {
			return wrong(fmt.Sprintf("tasks[%d].index", i), "%d: want the task's position", t.Index)
		}
		if err := checkTask(fmt.Sprintf("tasks[%d]", i), t); err != nil {
			return err
		}
	}
	if n := len(w.Blobs()); n > MaxBlobs {
		return wrong("tasks", "%d distinct files: want at most %d", n, MaxBlobs)
	}
	return nil
}

// CheckLimits says whether limits are within what this version allows.
// Its error is a *FieldError under limits.
func CheckLimits(l Limits) error {
	for _, c := range []struct {
		field     string
		value     uint64
		low, high uint64
	}{
		{"gas", uint64(l.Gas), 1, uint64(MaxGas)},
		{"memory", l.MemoryBytes, PageBytes, MaxMemoryBytes},
		{"output", l.OutputBytes, 0, MaxOutputBytes},
		{"scratch", l.ScratchBytes, 0, MaxScratchBytes},
		{"stack", uint64(l.StackDepth), 1, MaxStackDepth},
		{"wall", l.WallMillis, 1, MaxWallMillis},
	} {
		if c.value < c.low || c.value > c.high {
			return wrong("limits."+c.field, "%d: want %d to %d", c.value, c.low, c.high)
		}
	}
	if l.MemoryBytes%PageBytes != 0 {
		return wrong("limits.memory", "%d bytes: want whole pages of %d", l.MemoryBytes, PageBytes)
	}
	return nil
}

// CheckName says whether name may name a workload: 1 to MaxNameBytes letters,
// digits, dots, dashes and underscores, beginning with a letter or digit.
func CheckName(name string) error {
	if name == "" || len(name) > MaxNameBytes {
		return fmt.Errorf("%.80q: want 1 to %d characters", name, MaxNameBytes)
	}
	for i, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("._-", c)) {
			return fmt.Errorf("%.80q: want letters, digits, '.', '-' and '_', beginning with a letter or digit", name)
		}
	}
	return nil
}

// CheckPath says whether p can stand below /in or /out in a guest: relative,
// clean, with forward slashes, valid UTF-8 without control characters.
func CheckPath(p string) error {
	switch {
	case p == "" || len(p) > MaxPathBytes:
		return fmt.Errorf("%.80q: want 1 to %d bytes", p, MaxPathBytes)
	case !utf8.ValidString(p) || strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' }):
		return fmt.Errorf("%.80q: want UTF-8 without control characters or backslashes", p)
	case path.IsAbs(p):
		return fmt.Errorf("%.80q: want a relative path", p)
	case path.Clean(p) != p || p == "." || p == ".." || strings.HasPrefix(p, "../"):
		return fmt.Errorf("%.80q: want a clean path that stays inside", p)
	case strings.Count(p, "/") >= MaxPathDepth:
		return fmt.Errorf("%.80q: want at most %d folders deep", p, MaxPathDepth)
	}
	for part := range strings.SplitSeq(p, "/") {
		if len(part) > 255 {
			return fmt.Errorf("%.80q: want names of at most 255 bytes", p)
		}
	}
	return nil
}

// Match says whether the output at p is wanted by pattern: path.Match's
// syntax for each element, and a last element of ** takes everything below.
func Match(pattern, p string) bool {
	for {
		want, below, more := strings.Cut(pattern, "/")
		if want == "**" && !more {
			return p != "" && !strings.HasSuffix(p, "/")
		}
		name, rest, deeper := strings.Cut(p, "/")
		if ok, err := path.Match(want, name); !ok || err != nil || more != deeper {
			return false
		}
		if !more {
			return name != ""
		}
		pattern, p = below, rest
	}
}

// CheckPattern says whether pattern is one that Match reads.
func CheckPattern(pattern string) error {
	if err := CheckPath(pattern); err != nil {
		return err
	}
	for element := range strings.SplitSeq(pattern, "/") {
		if _, err := path.Match(element, "x"); err != nil {
			return fmt.Errorf("%.80q: %w", pattern, err)
		}
	}
	if i := strings.Index(pattern, "**"); i >= 0 && (i != len(pattern)-2 || i > 0 && pattern[i-1] != '/') {
		return fmt.Errorf("%.80q: want ** only as the last element", pattern)
	}
	return nil
}

// CheckEnv says whether v is NAME=value with a name of letters, digits and
// underscores that does not begin with a digit.
func CheckEnv(v string) error {
	name, _, ok := strings.Cut(v, "=")
	if !ok || name == "" {
		return fmt.Errorf("%.80q: want NAME=value", v)
	}
	for i, c := range name {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return fmt.Errorf("name %.80q: want letters, digits and '_', not beginning with a digit", name)
		}
	}
	return nil
}

func envName(v string) string {
	name, _, _ := strings.Cut(v, "=")
	return name
}

func checkText(field, s string, most int) error {
	if len(s) > most {
		return wrong(field, "%d bytes: want at most %d", len(s), most)
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return wrong(field, "want UTF-8 without zero bytes")
	}
	return nil
}

func checkBlob(field string, b Blob, most uint64) error {
	if b.Digest.IsZero() {
		return wrong(field+".digest", "missing")
	}
	if b.Size > most {
		return wrong(field+".size", "%d bytes: want at most %d", b.Size, most)
	}
	return nil
}

func checkTask(field string, t Task) error {
	if len(t.Args) == 0 || len(t.Args) > MaxArgs {
		return wrong(field+".args", "%d of them: want 1 to %d, the program's name first", len(t.Args), MaxArgs)
	}
	if len(t.Env) > MaxEnv {
		return wrong(field+".env", "%d of them: want at most %d", len(t.Env), MaxEnv)
	}
	total := 0
	for i, a := range t.Args {
		total += len(a)
		if err := checkText(fmt.Sprintf("%s.args[%d]", field, i), a, MaxArgBytes); err != nil {
			return err
		}
	}
	for i, v := range t.Env {
		total += len(v)
		at := fmt.Sprintf("%s.env[%d]", field, i)
		if err := checkText(at, v, MaxArgBytes); err != nil {
			return err
		}
		if err := CheckEnv(v); err != nil {
			return wrong(at, "%v", err)
		}
		if i > 0 && envName(t.Env[i-1]) >= envName(v) {
			return wrong(at, "%.80q: want each name once, in ascending order", envName(v))
		}
	}
	if total > MaxArgsBytes {
		return wrong(field+".args", "%d bytes with env: want at most %d", total, MaxArgsBytes)
	}
	if t.HasStdin() {
		if err := checkBlob(field+".stdin", t.Stdin, MaxBlobBytes); err != nil {
			return err
		}
	}
	if err := checkInputs(field, t.Inputs); err != nil {
		return err
	}
	if len(t.Outputs) > MaxOutputs {
		return wrong(field+".outputs", "%d of them: want at most %d", len(t.Outputs), MaxOutputs)
	}
	for i, p := range t.Outputs {
		at := fmt.Sprintf("%s.outputs[%d]", field, i)
		if err := CheckPattern(p); err != nil {
			return wrong(at, "%v", err)
		}
		if i > 0 && t.Outputs[i-1] >= p {
			return wrong(at, "%.80q: want each pattern once, in ascending order", p)
		}
	}
	return nil
}

func checkInputs(field string, inputs []Input) error {
	if len(inputs) > MaxInputs {
		return wrong(field+".inputs", "%d of them: want at most %d", len(inputs), MaxInputs)
	}
	files := make(map[string]bool, len(inputs))
	for i, in := range inputs {
		at := fmt.Sprintf("%s.inputs[%d]", field, i)
		if err := CheckPath(in.Path); err != nil {
			return wrong(at+".path", "%v", err)
		}
		if i > 0 && inputs[i-1].Path >= in.Path {
			return wrong(at+".path", "%.80q: want each path once, in ascending order", in.Path)
		}
		if err := checkBlob(at, in.Blob, MaxBlobBytes); err != nil {
			return err
		}
		files[in.Path] = true
	}
	for i, in := range inputs {
		for dir := path.Dir(in.Path); dir != "."; dir = path.Dir(dir) {
			if files[dir] {
				return wrong(fmt.Sprintf("%s.inputs[%d].path", field, i), "%.80q lies below the file %.80q", in.Path, dir)
			}
		}
	}
	return nil
}
