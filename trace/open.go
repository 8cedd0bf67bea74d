package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Variable is the standard environment variable that names an endpoint.
const Variable = "OTEL_EXPORTER_OTLP_ENDPOINT"

// Config says where spans go, and whose they are.
type Config struct {
	// Endpoint is a collector's base URL, as http://127.0.0.1:4318; spans go to
	// /v1/traces below it. Empty does not trace.
	Endpoint string
	// Party is who does: tenant, hub, provider or node.
	Party   string
	Version string
	Log     *slog.Logger
}

// Endpoint is the first that is set: a flag's, the environment's, a file's.
func Endpoint(flag, file string) string {
	if flag != "" {
		return flag
	}
	if v := os.Getenv(Variable); v != "" {
		return v
	}
	return file
}

// Check says what is wrong with an endpoint; the empty one is right.
func Check(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || len(endpoint) > 1024 || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("trace endpoint %.80q: want a collector's URL, as http://127.0.0.1:4318", endpoint)
	}
	if u.User != nil || u.RawQuery != "" {
		return errors.New("trace endpoint: put credentials into OTEL_EXPORTER_OTLP_HEADERS, not into the URL")
	}
	return nil
}

// Bounds of what waits for a collector, and of the wait at the end.
const (
	mostWaiting = 4096 // spans
	batchEvery  = time.Second
	sendWait    = 3 * time.Second
	complain    = time.Minute
)

// LastWait is how long a program may wait for its collector when it ends.
const LastWait = 2 * time.Second

// Open makes a tracer; a nil one, and no error, where there is no endpoint. It
// does not ask whether the collector is there: work goes on without it.
func Open(ctx context.Context, c Config) (*Tracer, error) {
	if c.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil tracer is one that does not trace
	}
	if err := Check(c.Endpoint); err != nil {
		return nil, err
	}
	// One try a batch: spans of a collector that is away are not worth a queue.
	exporter, err := otlptrace.New(ctx, otlptracehttp.NewClient(
		otlptracehttp.WithEndpointURL(strings.TrimSuffix(c.Endpoint, "/")+"/v1/traces"),
		otlptracehttp.WithTimeout(sendWait),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
	))
	if err != nil {
		return nil, fmt.Errorf("trace to %s: %w", c.Endpoint, err)
	}
	if c.Log != nil {
		otel.SetErrorHandler(&handler{log: c.Log})
	}
	queue := sdktrace.NewBatchSpanProcessor(exporter, sdktrace.WithMaxQueueSize(mostWaiting),
		sdktrace.WithBatchTimeout(batchEvery), sdktrace.WithExportTimeout(sendWait))
	own, boxes := provider(queue, "fallow-"+c.Party, c.Version), provider(queue, "fallow-runner", c.Version)
	return &Tracer{
		own: own.Tracer("fallow.network"), boxes: boxes.Tracer("fallow.network"),
		close: func(ctx context.Context) error { return errors.Join(own.Shutdown(ctx), boxes.Shutdown(ctx)) },
	}, nil
}

// provider makes spans of one service. The only attributes of it are its name
// and version: nothing of the machine is told.
func provider(queue sdktrace.SpanProcessor, service, version string) *sdktrace.TracerProvider {
	limits := sdktrace.NewSpanLimits()
	limits.AttributeCountLimit, limits.EventCountLimit, limits.LinkCountLimit = 32, 0, 4
	return sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(queue),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.version", version))),
	)
}

// handler tells that a collector is away, now and then.
type handler struct {
	log  *slog.Logger
	last atomic.Int64
}

// Handle logs an error of the exporter, unless it logged one just before.
func (h *handler) Handle(err error) {
	now := time.Now().UnixNano()
	if last := h.last.Load(); now-last > int64(complain) && h.last.CompareAndSwap(last, now) {
		h.log.Info("spans were dropped: the collector does not take them", slog.Any("error", err))
	}
}
