package formats

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// reader walks a file's nodes and collects what is wrong.
type reader struct {
	file    string
	host    Host
	errs    Errors
	missing map[string]bool
	notes   []string
	// fold compares keys without case, as Bacalhau's decoder does.
	fold bool
}

// field is a value, where it stands and what it is called.
type field struct {
	node ast.Node
	path string
}

func (f field) child(name string) string {
	if f.path == "" {
		return name
	}
	return f.path + "." + name
}

func (r *reader) result() error {
	if len(r.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return r.errs[:min(len(r.errs), MaxErrors)]
}

func (r *reader) full() bool { return len(r.errs) >= MaxErrors }

func (r *reader) at(line, column int, path, fix, problem string, a ...any) {
	if r.full() {
		return
	}
	r.errs = append(r.errs, &Error{
		File: r.file, Line: max(line, 1), Column: max(column, 1),
		Field: path, Problem: fmt.Sprintf(problem, a...), Fix: fix,
	})
}

// fail records a problem at f.
func (r *reader) fail(f field, fix, problem string, a ...any) {
	line, column := position(f.node)
	r.at(line, column, f.path, fix, problem, a...)
}

// position is where a node begins; a mapping's own token is its first colon,
// so its first key stands for it.
func position(n ast.Node) (line, column int) {
	for {
		m, ok := n.(*ast.MappingNode)
		if !ok || m.IsFlowStyle || len(m.Values) == 0 {
			break
		}
		n = m.Values[0].Key
	}
	if n == nil {
		return 1, 1
	}
	if s, ok := n.(*ast.SequenceNode); ok && s.Start != nil {
		return place(s.Start)
	}
	return place(n.GetToken())
}

func place(t *token.Token) (line, column int) {
	if t == nil || t.Position == nil {
		return 1, 1
	}
	return t.Position.Line, t.Position.Column
}

// document parses data into its one mapping.
func (r *reader) document(data []byte) (root field, ok bool) {
	if len(data) > MaxFileBytes {
		r.at(1, 1, "", "split the job, or name files by a glob", "the file has %d bytes, at most %d are read", len(data), MaxFileBytes)
		return root, false
	}
	if line, deep := tooDeep(data); deep {
		r.at(line, 1, "", "a job file needs four levels at most", "nested deeper than %d levels", maxNesting)
		return root, false
	}
	file, err := parseYAML(data)
	if err != nil {
		var syntax *yaml.SyntaxError
		line, column, message := 1, 1, err.Error()
		if errors.As(err, &syntax) {
			line, column = place(syntax.Token)
			message = syntax.Message
		}
		r.at(line, column, "", "mend the YAML", "%s", message)
		return root, false
	}
	var bodies []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType && d.Body.Type() != ast.DirectiveType {
			bodies = append(bodies, d.Body)
		}
	}
	if len(bodies) == 0 {
		r.at(1, 1, "", "begin with name: and module:, see docs/job-file.md", "the file is empty")
		return root, false
	}
	if len(bodies) > 1 {
		line, column := position(bodies[1])
		r.at(line, column, "", "put each job in a file of its own", "the file has %d documents", len(bodies))
		return root, false
	}
	root = field{node: bodies[0]}
	if _, is := root.node.(*ast.MappingNode); !is {
		r.fail(root, "begin with name: and module:, see docs/job-file.md", "want fields, and this is %s", kind(root.node))
		return root, false
	}
	return root, true
}

// parseYAML turns a panic of the library into an error: the bytes come from
// outside.
func parseYAML(data []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			file, err = nil, fmt.Errorf("this is not YAML that can be read: %v", p)
		}
	}()
	return parser.ParseBytes(data, 0)
}

// tooDeep says whether brackets or list markers nest deeper than the parser
// should follow. It reads no quotes: a text with that many open brackets is
// refused as well.
func tooDeep(data []byte) (line int, deep bool) {
	depth := 0
	line = 1
	for text := range strings.Lines(string(data)) {
		if rest := strings.TrimLeft(text, " -?:&!*|>\t"); len(text)-len(rest) > 4*maxNesting {
			return line, true
		}
		for i := range len(text) {
			switch text[i] {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth > maxNesting {
				return line, true
			}
		}
		line++
	}
	return 0, false
}

// kind is what a node is, for people.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode:
		return "nothing"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias"
	case *ast.TagNode:
		return "a tag"
	default:
		return "something else"
	}
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	name  field // the key's own place
	value field
}

// entries lists a mapping's keys in the order of the file.
func (r *reader) entries(f field) ([]entry, bool) {
	m, ok := f.node.(*ast.MappingNode)
	if !ok {
		r.fail(f, "write NAME: VALUE pairs", "want a mapping, and this is %s", kind(f.node))
		return nil, false
	}
	var out []entry
	for _, v := range m.Values {
		var key string
		switch k := v.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.IntegerNode, *ast.FloatNode:
			key = v.Key.GetToken().Value
		default:
			r.fail(field{node: v.Key, path: f.path}, "write a plain name before the colon", "a key that is not a name")
			return nil, false
		}
		out = append(out, entry{key: key, name: field{node: v.Key, path: f.child(key)}, value: field{node: v.Value, path: f.child(key)}})
	}
	return out, true
}

// fields reads a mapping whose keys are known; each is read by its function.
func (r *reader) fields(f field, known map[string]func(field)) {
	entries, ok := r.entries(f)
	if !ok {
		return
	}
	seen := map[string]bool{}
	for _, e := range entries {
		name, read := e.key, known[e.key]
		if r.fold && read == nil {
			for k, fn := range known {
				if strings.EqualFold(k, e.key) {
					name, read = k, fn
				}
			}
		}
		switch {
		case read == nil:
			r.fail(e.name, "known here: "+strings.Join(names(known), ", "), "unknown field")
		case seen[name]:
			r.fail(e.name, "keep one of them", "given twice")
		case e.value.node == nil:
			r.fail(e.name, "give it a value or remove it", "has no value")
		default:
			seen[name] = true
			if _, null := e.value.node.(*ast.NullNode); null {
				r.fail(e.value, "give it a value or remove it", "has no value")
				continue
			}
			read(e.value)
		}
	}
}

func names(known map[string]func(field)) []string {
	var out []string
	for k := range known {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// list reads a sequence's elements.
func (r *reader) list(f field, most int) ([]field, bool) {
	s, ok := f.node.(*ast.SequenceNode)
	if !ok {
		r.fail(f, "write a list, as [a, b]", "want a list, and this is %s", kind(f.node))
		return nil, false
	}
	if len(s.Values) > most {
		r.fail(f, "", "%d elements, at most %d are read", len(s.Values), most)
		return nil, false
	}
	var out []field
	for i, v := range s.Values {
		out = append(out, field{node: v, path: fmt.Sprintf("%s[%d]", f.path, i)})
	}
	return out, true
}

// text reads a scalar as the text that stands in the file: 007 stays 007.
func (r *reader) text(f field) (string, bool) {
	switch n := f.node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	case *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		r.fail(f, "put it in quotes if you mean the text", "want text, and this is %s", kind(n))
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		r.fail(f, "write the value out", "anchors, aliases and tags are not read here")
	default:
		r.fail(f, "write one value", "want text, and this is %s", kind(f.node))
	}
	return "", false
}

// texts reads a list of texts.
func (r *reader) texts(f field, most int) []template {
	elements, _ := r.list(f, most)
	var out []template
	for _, e := range elements {
		if s, ok := r.text(e); ok {
			out = append(out, template{field: e, text: s})
		}
	}
	return out
}
