package main

import (
	"encoding"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"fallow.network/client"
	"fallow.network/keys"
	"fallow.network/local"
	"fallow.network/market"
	"fallow.network/provider"
	"fallow.network/sdk"
)

var snake = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// named walks all that a type prints and wants a name of its own for each field.
func named(t *testing.T, at reflect.Type, path string, seen map[reflect.Type]bool) {
	t.Helper()
	text := reflect.TypeFor[encoding.TextMarshaler]()
	raw := reflect.TypeFor[json.Marshaler]()
	if at.Implements(text) || reflect.PointerTo(at).Implements(text) || reflect.PointerTo(at).Implements(raw) || seen[at] || at == reflect.TypeFor[time.Time]() {
		return
	}
	seen[at] = true
	switch at.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		named(t, at.Elem(), path, seen)
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(at) {
			if outer, _ := at.FieldByName(f.Name); len(f.Index) > 1 && !reflect.DeepEqual(outer.Index, f.Index) {
				continue // another stands over it
			}
			if !f.IsExported() || f.Anonymous {
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "-" {
				continue
			}
			if !snake.MatchString(name) {
				t.Errorf("%s.%s of %s is named %q", path, f.Name, at, name)
			}
			named(t, f.Type, path+"."+name, seen)
		}
	default: // a plain value
	}
}

func TestJobFacts(t *testing.T) {
	j := client.Job{ID: "x-1", Options: client.Options{Placement: market.Placement{Regions: []string{"moon"}, Attributes: []market.Attribute{{Key: "gpu", Value: "no"}}}}}
	b, err := json.Marshal(factsOf(j))
	if err != nil {
		t.Fatal(err)
	}
	has(t, string(b), `"id":"x-1"`, `"placement":{"regions":["moon"],"attributes":{"gpu":"no"},"providers":[],"excluded":[]}`)
}

// What --json prints has names that stay, in one style.
func TestJSONNames(t *testing.T) {
	for _, v := range []any{
		jobReport{},
		jobFacts{},
		client.Output{},
		client.StandingLease{},
		balance{},
		sent{},
		networkFacts{},
		finding{},
		keys.Key{},
		sdk.Network{},
		local.Running{},
		provider.Status{},
		provider.Config{},
	} {
		at := reflect.TypeOf(v)
		named(t, at, at.Name(), map[reflect.Type]bool{})
	}
}
