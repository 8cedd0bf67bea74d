package main

import (
	"context"
	"log/slog"
	"time"

	"fallow.network/footprint"
	"fallow.network/sdk"
	"fallow.network/trace"
)

// daemonLog makes ready for a daemon: what it writes is its owner's alone, and its
// log goes to standard error, by the home's config.
func (a *app) daemonLog(h sdk.Home) (*slog.Logger, error) {
	keepPrivate()
	config, err := h.Load()
	if err != nil {
		return nil, fail(exitUsage, err, "")
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(config.LogLevel)); err != nil {
		return nil, fail(exitUsage, err, "")
	}
	if a.verbose {
		level = slog.LevelDebug
	}
	options := &slog.HandlerOptions{Level: level}
	if config.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.err, options)), nil
	}
	return slog.New(slog.NewTextHandler(a.err, options)), nil
}

// settled is how long after its start a daemon has read what it reads once.
const settled = 10 * time.Second

// lean gives back what starting took, once it is over. The caller ends it.
func lean(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTimer(settled)
		defer t.Stop()
		select {
		case <-ctx.Done():
		case <-t.C:
			footprint.Shrink()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// traced does something with a tracer, where the call, the environment or the
// home names a collector, and gives it a moment for its last spans.
func (a *app) traced(ctx context.Context, h sdk.Home, party string, log *slog.Logger, do func(context.Context) error) error {
	config, err := h.Load()
	if err != nil {
		return fail(exitUsage, err, "")
	}
	t, err := trace.Open(ctx, trace.Config{Endpoint: trace.Endpoint(a.traces, config.TraceEndpoint), Party: party, Version: version, Log: log})
	if err != nil {
		return fail(exitUsage, err, "")
	}
	err = do(trace.Carry(ctx, t))
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), trace.LastWait)
	defer cancel()
	_ = t.Close(last) // a collector that is away keeps nobody
	return err
}
