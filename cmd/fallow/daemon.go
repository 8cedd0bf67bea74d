package main

import (
	"log/slog"

	"fallow.network/sdk"
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
