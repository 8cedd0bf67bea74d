package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"fallow.network"
)

// Event is one of our modules' events, as *leasev1.EventLeaseOpened and its
// siblings in api/lease and api/provider.
type Event struct {
	Message proto.Message
	// Tx is the index of its transaction in the block; -1 for what the block
	// itself did, as payouts that matured.
	Tx int
}

// Block is what a block did, as far as it is ours.
type Block struct {
	Height fallow.Height
	Time   fallow.Time
	Events []Event
}

// Follow calls each for every block from a height on (0: the next one), in
// order and without gaps, also over the ledger's absence. It returns when ctx
// ends, with the error of each, or with ErrPruned when the nodes don't keep
// the block any more: then read the state anew and follow from there.
func (c *Client) Follow(ctx context.Context, from fallow.Height, each func(Block) error) error {
	if from <= 0 {
		head, err := c.Head(ctx)
		if err != nil {
			return err
		}
		from = head.Height + 1
	}
	for h := from; ; h++ {
		if _, err := c.WaitHeight(ctx, h); err != nil {
			return err
		}
		b, err := c.Block(ctx, h)
		for wait := 10 * time.Millisecond; err != nil; b, err = c.Block(ctx, h) {
			if !Away(err) && !errors.Is(err, errNotYet) {
				return err
			}
			if Away(err) {
				c.config.Logger.DebugContext(ctx, "ledger away, following later", slog.Int64("height", int64(h)))
			}
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return ctx.Err()
			}
			wait = min(2*wait, time.Second)
		}
		if err := each(b); err != nil {
			return err
		}
	}
}

// Block reads what block h did.
func (c *Client) Block(ctx context.Context, h fallow.Height) (Block, error) {
	b, results, err := c.rpc.block(ctx, h)
	if err != nil {
		return Block{}, err
	}
	out := Block{Height: h, Time: fallow.Time(b.Block.Header.Time.UnixMilli())}
	for i, r := range results.Txs {
		if r.Code == 0 {
			out.Events = append(out.Events, readEvents(r.Events, i)...)
		}
	}
	out.Events = append(out.Events, readEvents(results.Events, -1)...)
	return out, nil
}

// readEvents takes those of our modules. What a newer ledger emits and this
// program does not know is left out: events are news, never proof.
func readEvents(raw []rawEvent, tx int) []Event {
	var out []Event
	for _, e := range raw {
		if !strings.HasPrefix(e.Type, "fallow.") {
			continue
		}
		m, err := readEvent(e)
		if err != nil {
			continue
		}
		out = append(out, Event{Message: m, Tx: tx})
	}
	return out
}

// readEvent builds the message from its attributes: each is a field's name
// and its JSON. The SDK adds attributes of its own, which are no fields.
func readEvent(e rawEvent) (proto.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(e.Type))
	if err != nil {
		return nil, fmt.Errorf("event %.80q: %w", e.Type, err)
	}
	fields := t.Descriptor().Fields()
	object := map[string]json.RawMessage{}
	for _, a := range e.Attributes {
		if fields.ByName(protoreflect.Name(a.Key)) == nil || !json.Valid([]byte(a.Value)) {
			continue
		}
		object[a.Key] = json.RawMessage(a.Value)
	}
	b, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Type, err)
	}
	m := t.New().Interface()
	if err := protojson.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Type, err)
	}
	return m, nil
}
