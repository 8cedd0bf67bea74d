package adapter

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	abci "github.com/cometbft/cometbft/abci/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/gogoproto/proto"
)

// shape is how a kind of event is written: its fields by name, ascending.
type shape struct {
	name   string
	fields []field
}

type field struct {
	name  string
	index int
}

// shapes remembers each kind's; a kind that is not flat has a nil one.
var shapes sync.Map // of reflect.Type to *shape

func shapeOf(m proto.Message, t reflect.Type) *shape {
	if known, ok := shapes.Load(t); ok {
		return known.(*shape)
	}
	s := &shape{name: proto.MessageName(m)}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		switch t.Field(i).Type.Kind() {
		case reflect.String, reflect.Uint64, reflect.Int64:
			s.fields = append(s.fields, field{name, i})
		default:
			shapes.Store(t, (*shape)(nil))
			return nil
		}
	}
	slices.SortFunc(s.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	shapes.Store(t, s)
	return s
}

// Event writes a message as the SDK writes typed events, byte for byte: each
// field an attribute with its JSON. The SDK makes JSON of the whole and reads it
// again for each, which for a lease costs more than its rules do; messages that
// hold others are left to it.
func Event(m proto.Message) (sdk.Event, error) {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return sdk.TypedEventToEvent(m)
	}
	v = v.Elem()
	s := shapeOf(m, v.Type())
	if s == nil {
		return sdk.TypedEventToEvent(m)
	}
	e := sdk.Event{Type: s.name, Attributes: make([]abci.EventAttribute, len(s.fields))}
	for i, f := range s.fields {
		var text string
		switch x := v.Field(f.index); x.Kind() {
		case reflect.Uint64:
			text = `"` + strconv.FormatUint(x.Uint(), 10) + `"`
		case reflect.Int64:
			text = `"` + strconv.FormatInt(x.Int(), 10) + `"`
		default:
			b, err := json.Marshal(x.String())
			if err != nil {
				return sdk.Event{}, err
			}
			text = string(b)
		}
		e.Attributes[i] = abci.EventAttribute{Key: f.name, Value: text}
	}
	return e, nil
}
