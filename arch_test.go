package fallow_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "fallow.network"

// room says what one room may import: other rooms of ours by their path, and
// third-party modules by prefix. The order is the order in which a job flows.
type room struct {
	path  string
	pure  bool     // standard library and earlier pure rooms alone, no world
	ours  []string // rooms; a trailing /... takes the rooms below too
	third []string // third-party import path prefixes
}

var (
	pureRooms = []string{".", "spec", "market", "meter", "receipt", "verify", "settle"}
	plainAPI  = []string{"api/market", "api/hub/...", "api/node/...", "api/provider", "api/lease"}
	cosmos    = []string{"cosmossdk.io/", "github.com/cosmos/", "github.com/cometbft/"}
	proto     = []string{"google.golang.org/protobuf", "google.golang.org/grpc", "connectrpc.com/connect"}
	plainGen  = []string{"cosmossdk.io/api/", "github.com/cosmos/cosmos-proto", "github.com/cosmos/gogoproto/gogoproto", "github.com/cosmos/gogoproto/proto", "google.golang.org/genproto"}
)

func rooms() []room {
	with := func(lists ...[]string) []string { return slices.Concat(lists...) }
	return []room{
		{path: ".", pure: true},
		{path: "spec", pure: true, ours: []string{"."}},
		{path: "market", pure: true, ours: []string{".", "spec"}},
		{path: "meter", pure: true, ours: []string{".", "spec"}},
		{path: "receipt", pure: true, ours: []string{".", "spec", "market", "meter"}},
		{path: "verify", pure: true, ours: []string{".", "spec", "market", "meter", "receipt"}},
		{path: "settle", pure: true, ours: []string{".", "spec", "market", "meter", "receipt", "verify"}},

		{path: "api/chain/provider", third: with(cosmos, proto, []string{"google.golang.org/genproto", "github.com/grpc-ecosystem", "github.com/golang/protobuf", "google.golang.org/grpc"})},
		{path: "api/chain/lease", third: with(cosmos, proto, []string{"google.golang.org/genproto", "github.com/grpc-ecosystem", "github.com/golang/protobuf"})},
		{path: "api/market", third: proto},
		{path: "api/hub/...", ours: plainAPI, third: proto},
		{path: "api/node/...", ours: plainAPI, third: proto},
		{path: "api/provider", ours: plainAPI, third: with(proto, plainGen)},
		{path: "api/lease", ours: plainAPI, third: with(proto, plainGen)},

		{path: "fault"},
		{path: "footprint"},
		{path: "wire", ours: with(pureRooms, plainAPI), third: with(proto, []string{"github.com/decred/", "golang.org/x/crypto"})},
		{path: "trace", ours: []string{"."}, third: []string{"go.opentelemetry.io/otel"}},
		{path: "formats", ours: pureRooms, third: []string{"github.com/goccy/go-yaml"}},
		{path: "collect"},

		{path: "runner/wasm", ours: with(pureRooms, []string{"blob", "fault"}), third: []string{"github.com/bytecodealliance/wasmtime-go", "github.com/tetratelabs/wazero", "golang.org/x/sys"}},
		{path: "runner/conformance", ours: with(pureRooms, []string{"runner/wasm"})},
		{path: "hardware", ours: []string{"."}, third: []string{"github.com/NVIDIA/go-nvml", "github.com/godbus/dbus", "golang.org/x/sys"}},
		{path: "blob", ours: []string{"."}, third: []string{"golang.org/x/sys"}},
		{path: "p2p", ours: []string{"."}, third: []string{"github.com/libp2p/", "github.com/multiformats/", "github.com/prometheus/", "golang.org/x/time"}},
		{path: "keys", ours: []string{"."}, third: []string{"filippo.io/age", "github.com/tyler-smith/go-bip39", "github.com/btcsuite/", "github.com/decred/", "golang.org/x/"}},
		{path: "ledger", ours: with(pureRooms, plainAPI, []string{"keys", "wire", "trace", "fault"}), third: with(proto, plainGen, []string{"golang.org/x/", "github.com/decred/", "github.com/gorilla/websocket"})},

		{path: "chain/...", ours: with(pureRooms, plainAPI, []string{"api/chain/...", "wire", "trace", "fault", "chain/..."}), third: []string{""}},

		{path: "hub", ours: with(pureRooms, plainAPI, []string{"wire", "p2p", "trace", "fault"}), third: with(proto, []string{"github.com/prometheus/", "golang.org/x/", "github.com/pelletier/go-toml"})},
		{path: "provider", ours: with(pureRooms, plainAPI, []string{"wire", "blob", "hardware", "runner/wasm", "trace", "fault"}), third: with(proto, []string{"github.com/prometheus/", "modernc.org/sqlite", "github.com/pelletier/go-toml", "github.com/gofrs/flock", "golang.org/x/"})},
		{path: "client", ours: with(pureRooms, plainAPI, []string{"wire", "blob", "formats", "trace", "fault"}), third: with(proto, []string{"modernc.org/sqlite", "github.com/gofrs/flock", "golang.org/x/"})},

		{path: "sim", ours: with(pureRooms, []string{"wire", "provider"})},

		{path: "sdk", ours: []string{"*"}, third: with(proto, []string{"github.com/pelletier/go-toml", "github.com/gofrs/flock", "golang.org/x/", "github.com/prometheus/"})},
		{path: "local", ours: []string{".", "sdk", "keys", "provider", "runner/wasm"}, third: []string{"github.com/pelletier/go-toml", "github.com/gofrs/flock", "github.com/prometheus/"}},
		{path: "cmd/fallow", ours: []string{"*"}, third: []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/pelletier/go-toml", "charm.land/", "golang.org/x/", "google.golang.org/protobuf", "github.com/prometheus/"}},
		{path: "cmd/fallowd", ours: []string{"*"}, third: []string{""}},
		{path: "bench/...", ours: []string{"*"}, third: []string{""}},
		{path: "examples/...", ours: []string{"*"}, third: []string{""}},
		{path: "e2e/...", ours: []string{"*"}, third: []string{""}},
	}
}

// world is what a pure room may not import of the standard library.
var world = []string{"net", "net/http", "os", "os/exec", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "time/tzdata", "syscall", "io/ioutil", "testing"}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// source is one hand-written or generated file outside of tests.
type source struct {
	file    string
	dir     string
	imports []string
	doc     bool
	made    bool // generated
	lines   int
	pkg     string
	calls   []string // selector uses of package time
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != "." && (d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "build" || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, file, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{file: filepath.ToSlash(file), dir: path.Dir(filepath.ToSlash(file)), doc: f.Doc != nil, pkg: f.Name.Name, lines: set.File(f.Pos()).LineCount()}
		for _, c := range f.Comments {
			if generated.MatchString("// " + strings.TrimSpace(strings.TrimPrefix(c.List[0].Text, "//"))) {
				s.made = true
			}
		}
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			s.imports = append(s.imports, p)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if id, ok := sel.X.(*ast.Ident); ok && id.Name == "time" {
					s.calls = append(s.calls, sel.Sel.Name)
				}
			}
			return true
		})
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func covers(pattern, dir string) bool {
	base, deep := strings.CutSuffix(pattern, "/...")
	return pattern == "*" || dir == base || deep && strings.HasPrefix(dir, base+"/")
}

// TestRooms keeps the rules of import: who may know whom, and what of the
// world each room may touch.
func TestRooms(t *testing.T) {
	for _, s := range sources(t) {
		i := slices.IndexFunc(rooms(), func(r room) bool { return covers(r.path, s.dir) })
		if i < 0 {
			t.Errorf("%s: room %q has no rule", s.file, s.dir)
			continue
		}
		r := rooms()[i]
		for _, imp := range s.imports {
			rest, ours := strings.CutPrefix(imp, module)
			first, _, _ := strings.Cut(imp, "/")
			switch to := path.Clean("./" + rest); {
			case ours && (rest == "" || rest[0] == '/'):
				if to != s.dir && !slices.ContainsFunc(r.ours, func(p string) bool { return covers(p, to) }) {
					t.Errorf("%s: %s may not import our %s", s.file, s.dir, to)
				}
				if strings.HasPrefix(to, "cmd/") {
					t.Errorf("%s: nobody imports %s", s.file, to)
				}
			case r.pure && (slices.Contains(world, imp) || strings.Contains(first, ".")):
				t.Errorf("%s: %s is pure and may not import %s", s.file, s.dir, imp)
			case strings.Contains(first, ".") && !slices.ContainsFunc(r.third, func(p string) bool { return strings.HasPrefix(imp, p) }):
				t.Errorf("%s: %s may not import %s", s.file, s.dir, imp)
			}
		}
		for _, c := range s.calls {
			if r.pure && slices.Contains([]string{"Now", "Since", "Until", "After", "Sleep", "Tick", "NewTimer", "NewTicker"}, c) {
				t.Errorf("%s: time.%s in a pure room", s.file, c)
			}
		}
	}
}

// TestHouse keeps one package doc a package, files of a readable size and no
// package named after nothing.
func TestHouse(t *testing.T) {
	docs, hand := map[string]int{}, map[string]bool{}
	for _, s := range sources(t) {
		if s.made {
			continue
		}
		hand[s.dir] = true
		if s.doc {
			docs[s.dir]++
		}
		if s.lines > 600 {
			t.Errorf("%s: %d lines; split it by topic below 500", s.file, s.lines)
		}
		if slices.Contains([]string{"util", "utils", "common", "types", "helpers", "helper", "misc", "pkg"}, s.pkg) {
			t.Errorf("%s: package %s says nothing", s.file, s.pkg)
		}
	}
	for dir := range hand {
		if docs[dir] != 1 {
			t.Errorf("%s: %d package docs, want exactly one", dir, docs[dir])
		}
	}
}

// TestLink looks at all that cmd/fallow links: no chain code, and the words
// behind plain generated code alone of Cosmos.
func TestLink(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}}", "./cmd/fallow").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(out)) {
		if slices.ContainsFunc(plainGen, func(ok string) bool { return strings.HasPrefix(p+"/", ok) || strings.HasPrefix(p, ok) }) {
			continue
		}
		if slices.ContainsFunc(cosmos, func(c string) bool { return strings.HasPrefix(p, c) }) ||
			strings.HasPrefix(p, module+"/chain/") || strings.HasPrefix(p, module+"/api/chain/") {
			t.Errorf("cmd/fallow links %s", p)
		}
	}
}
