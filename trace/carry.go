package trace

import "context"

type tracerKey struct{}

// Carry is ctx with a program's tracer, on the way from where it is opened to
// where rooms are wired together; a nil tracer leaves ctx as it is.
func Carry(ctx context.Context, t *Tracer) context.Context {
	if t == nil {
		return ctx
	}
	return context.WithValue(ctx, tracerKey{}, t)
}

// From is the tracer that ctx carries, or nil.
func From(ctx context.Context) *Tracer {
	t, _ := ctx.Value(tracerKey{}).(*Tracer)
	return t
}
