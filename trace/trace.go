// Package trace follows one job through the programs that carry it out:
// tenant, hub, provider, runner and ledger each begin and end spans, and send
// them to a collector by OTLP over HTTP where an endpoint is set.
//
// Its one invariant: tracing never costs work. Without an endpoint a span is a
// nil check, and nothing is built or started; with one, spans wait in a bounded
// queue, and what a collector that is away does not take is dropped.
//
// It decides nothing and stores nothing. Attributes are facts of the market
// (counts, reasons, heights, gas); no secret, path, argument or variable of a
// guest goes into one.
package trace

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"

	"fallow.network"
)

// Header carries a span's context between programs, as W3C Trace Context has
// it: 00-<trace>-<span>-<flags>.
const Header = "Traceparent"

// maxParent bounds a peer's traceparent, in bytes: version 00 has 55.
const maxParent = 55

// Tracer begins spans of one program. A nil Tracer begins none.
type Tracer struct {
	own   oteltrace.Tracer
	boxes oteltrace.Tracer // spans that are told on a sandbox's behalf
	close func(context.Context) error
}

// On says whether spans go anywhere; ask it before gathering what only a span
// needs.
func (t *Tracer) On() bool { return t != nil }

// Begin begins a span below the one that ctx carries. End it.
func (t *Tracer) Begin(ctx context.Context, name string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx, s := t.own.Start(ctx, name)
	return ctx, Span{s}
}

// Past tells of what ran in a sandbox and is over: a sandbox has no network,
// and nothing that runs in it is asked to tell of itself.
func (t *Tracer) Past(ctx context.Context, name string, from, to time.Time) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx, s := t.boxes.Start(ctx, name, oteltrace.WithTimestamp(from))
	return ctx, Span{past{s, to}}
}

// Since begins a span that has run since from.
func (t *Tracer) Since(ctx context.Context, name string, from time.Time) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx, s := t.own.Start(ctx, name, oteltrace.WithTimestamp(from))
	return ctx, Span{s}
}

// Close sends what waits, for as long as ctx lets it, and ends the tracer.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.close(ctx)
}

// past is a span whose end is known already.
type past struct {
	oteltrace.Span
	to time.Time
}

// End ends it when it ended.
func (p past) End(o ...oteltrace.SpanEndOption) {
	p.Span.End(append(o, oteltrace.WithTimestamp(p.to))...)
}

// Span is one thing that was done, from when to when. The zero Span is one of
// a program that does not trace.
type Span struct{ s oteltrace.Span }

// Int notes a number.
func (s Span) Int(key string, v int64) Span {
	if s.s != nil {
		s.s.SetAttributes(attribute.Int64(key, v))
	}
	return s
}

// maxText bounds an attribute's text, in bytes.
const maxText = 200

// Text notes a word of the market's: a reason, an account, a hash.
func (s Span) Text(key, v string) Span {
	if s.s != nil {
		if len(v) > maxText {
			v = v[:maxText]
		}
		s.s.SetAttributes(attribute.String(key, v))
	}
	return s
}

// End ends the span; a reason says why it came to nothing, and is empty where
// all went well.
func (s Span) End(reason fallow.Reason) {
	if s.s == nil {
		return
	}
	if reason != "" {
		if !reason.Known() {
			reason = "other"
		}
		s.s.SetAttributes(attribute.String("fallow.reason", string(reason)))
		s.s.SetStatus(codes.Error, string(reason))
	}
	s.s.End()
}

// Done is End for what failed with an error, which may be nil. The error's
// words stay here: they may name paths of this machine.
func (s Span) Done(err error) {
	if err != nil {
		s.End(fallow.ReasonAborted)
		return
	}
	s.End("")
}

// Parent is the traceparent of the span that ctx carries, or empty.
func Parent(ctx context.Context) string { return traceparent(oteltrace.SpanContextFromContext(ctx)) }

// Parent is the traceparent of a span, or empty.
func (s Span) Parent() string {
	if s.s == nil {
		return ""
	}
	return traceparent(s.s.SpanContext())
}

// traceparent writes a span as W3C Trace Context, version 00, does.
func traceparent(c oteltrace.SpanContext) string {
	if !c.IsValid() {
		return ""
	}
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-" + (c.TraceFlags() & oteltrace.FlagsSampled).String()
}

// In is ctx with the span, for what is done below it.
func (s Span) In(ctx context.Context) context.Context {
	if s.s == nil {
		return ctx
	}
	return oteltrace.ContextWithSpan(ctx, s.s)
}

// Valid is a peer's traceparent as it may be passed on, or empty.
func Valid(ctx context.Context, parent string) string {
	if parent == "" || len(parent) > maxParent {
		return ""
	}
	return Parent(With(oteltrace.ContextWithSpanContext(ctx, oteltrace.SpanContext{}), parent))
}

// With is ctx below a span of another program. What is no traceparent is left
// out. The peer's word makes nothing happen by itself: only a program with an
// endpoint of its own records, and its queue is bounded.
func With(ctx context.Context, parent string) context.Context {
	if parent == "" || len(parent) > maxParent {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
}
