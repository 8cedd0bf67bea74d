package trace

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"fallow.network"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// Without an endpoint a span is nothing: hot paths begin one for each task.
func TestOffCostsNothing(t *testing.T) {
	var off *Tracer
	ctx := t.Context()
	n := testing.AllocsPerRun(1000, func() {
		inner, s := off.Begin(With(ctx, ""), "task")
		if Parent(inner) != "" || off.On() || s.Parent() != "" {
			t.Fatal("a tracer that is off tells of something")
		}
		s.Int("fallow.task", 7).Text("fallow.kind", "work").End(fallow.ReasonTimeout)
	})
	if n != 0 {
		t.Errorf("%v allocations for a span that goes nowhere", n)
	}
	if err := off.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestParents(t *testing.T) {
	for said, want := range map[string]string{
		parent: parent, "": "",
		strings.ToUpper(parent):    "",
		parent + "-more":           "",
		strings.Repeat("0", 1<<20): "",
		"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01": "",
		"\x1b[31m": "",
	} {
		if got := Valid(t.Context(), said); got != want {
			t.Errorf("%.60q is passed on as %q, want %q", said, got, want)
		}
	}
}

func FuzzParent(f *testing.F) {
	f.Add(parent)
	f.Add("ff-0-0-0")
	f.Fuzz(func(t *testing.T, said string) {
		got := Valid(t.Context(), said)
		if got != "" && (len(got) != maxParent || Valid(t.Context(), got) != got) {
			t.Errorf("%q becomes %q", said, got)
		}
	})
}

func TestCheck(t *testing.T) {
	for endpoint, right := range map[string]bool{
		"": true, "http://127.0.0.1:4318": true, "https://otlp.example.org/base": true,
		"127.0.0.1:4318": false, "ftp://x": false, "http://": false, "http://user:word@x": false, "http://x?key=1": false,
	} {
		if err := Check(endpoint); (err == nil) != right {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	if tracer, err := Open(t.Context(), Config{}); tracer != nil || err != nil {
		t.Errorf("without an endpoint: %v, %v", tracer, err)
	}
}

// A peer's word decides whether its trace is kept, by a program that keeps any.
func TestUnsampledParentIsNotKept(t *testing.T) {
	var got atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
	defer s.Close()
	tracer, err := Open(t.Context(), Config{Endpoint: s.URL, Party: "hub"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := tracer.Begin(With(t.Context(), strings.TrimSuffix(parent, "1")+"0"), "hub.ask")
	if p := Parent(ctx); !strings.HasPrefix(p, parent[:35]) || !strings.HasSuffix(p, "-00") {
		t.Errorf("goes on as %q", p)
	}
	span.End("")
	if err := tracer.Close(t.Context()); err != nil || got.Load() != 0 {
		t.Errorf("%d batches for what nobody asked to keep: %v", got.Load(), err)
	}
}

// What waits is sent when the program ends.
func TestCloseSends(t *testing.T) {
	var got atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
	defer s.Close()
	tracer, err := Open(t.Context(), Config{Endpoint: s.URL, Party: "tenant"})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tracer.Begin(With(t.Context(), parent), "job")
	span.Int("n", 1).Text("long", strings.Repeat("x", 1000)).End("")
	if err := tracer.Close(t.Context()); err != nil || got.Load() == 0 {
		t.Errorf("%d batches, %v", got.Load(), err)
	}
}

// A collector that is away, or that never answers, holds nobody up: what does
// not fit the queue is dropped.
func TestAwayCollector(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // it takes connections and says nothing
	tracer, err := Open(t.Context(), Config{Endpoint: "http://" + l.Addr().String(), Party: "provider"})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 * mostWaiting {
		_, span := tracer.Begin(t.Context(), "provider.task")
		span.End("")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits at all
	if err := tracer.Close(ctx); err == nil {
		t.Error("spans that nobody took count as sent")
	}
}

func TestEndpoint(t *testing.T) {
	t.Setenv(Variable, "http://env:1")
	if got := Endpoint("http://flag:1", "http://file:1"); got != "http://flag:1" {
		t.Error(got)
	}
	if got := Endpoint("", "http://file:1"); got != "http://env:1" {
		t.Error(got)
	}
	if err := os.Unsetenv(Variable); err != nil {
		t.Fatal(err)
	}
	if got := Endpoint("", "http://file:1"); got != "http://file:1" {
		t.Error(got)
	}
}
