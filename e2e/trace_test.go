//go:build linux

package e2e

import (
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"

	"fallow.network/trace"
)

// collector is a receiver of OTLP over HTTP.
type collector struct {
	mu    sync.Mutex
	spans map[string]*span // by id
}

// span is one as it was told.
type span struct {
	trace, id, parent, service, name string
	begun, ended                     uint64
	attributes                       map[string]string
}

// ServeHTTP takes a batch of spans.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := c.take(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *collector) take(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			return err
		}
	}
	b, err := io.ReadAll(io.LimitReader(body, 64<<20))
	if err != nil {
		return err
	}
	var batch collectorv1.ExportTraceServiceRequest
	if err := proto.Unmarshal(b, &batch); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range batch.GetResourceSpans() {
		service := words(of.GetResource().GetAttributes())["service.name"]
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				id := hex.EncodeToString(s.GetSpanId())
				c.spans[id] = &span{
					trace: hex.EncodeToString(s.GetTraceId()), id: id, parent: hex.EncodeToString(s.GetParentSpanId()), service: service,
					name: s.GetName(), begun: s.GetStartTimeUnixNano(), ended: s.GetEndTimeUnixNano(), attributes: words(s.GetAttributes()),
				}
			}
		}
	}
	return nil
}

func words(list []*commonv1.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		switch v := a.GetValue().GetValue().(type) {
		case *commonv1.AnyValue_StringValue:
			all[a.GetKey()] = v.StringValue
		case *commonv1.AnyValue_IntValue:
			all[a.GetKey()] = strconv.FormatInt(v.IntValue, 10)
		}
	}
	return all
}

// collect begins a collector, and everything that the story starts from here
// on sends its spans there. With "dead" nobody answers where they are sent.
func cmdCollect(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(trace.Variable, "http://"+l.Addr().String())
	if len(args) > 0 && args[0] == "dead" {
		ts.Check(l.Close())
		return
	}
	c := &collector{spans: map[string]*span{}}
	storyOf(ts).collector = c
	mux := http.NewServeMux()
	mux.Handle("POST /v1/traces", c)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	ts.Defer(func() {
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			ts.Logf("the collector ended: %v", err)
		}
	})
}

// below are the spans of a whole job: each with who tells of it, and the span
// below which it stands.
var below = []struct{ name, service, parent string }{
	{"job", "fallow-tenant", ""},
	{"job.ask", "fallow-tenant", "job"},
	{"hub.ask", "fallow-hub", "job.ask"},
	{"provider.offer", "fallow-provider", "hub.ask or job.ask"},
	{"job.lease", "fallow-tenant", "job"},
	{"ledger.transaction", "fallow-tenant", "job.lease or job.settle or job"},
	{"chain.transaction", "fallow-node", "ledger.transaction"},
	{"chain.block", "fallow-node", "chain.transaction"},
	{"task", "fallow-tenant", "job"},
	{"provider.task", "fallow-provider", "task"},
	{"runner.run", "fallow-runner", "provider.task"},
	{"runner.load", "fallow-runner", "runner.run"},
	{"runner.guest", "fallow-runner", "runner.run"},
	{"runner.collect", "fallow-runner", "runner.run"},
	{"job.settle", "fallow-tenant", "job"},
}

// traces JOB looks at what the collector was told of a job: one trace, with
// every party's spans in their places, and no word that is nobody's business.
func cmdTraces(ts *testscript.TestScript, neg bool, args []string) {
	deny(ts, neg)
	if len(args) != 1 {
		ts.Fatalf("usage: traces JOB")
	}
	c := storyOf(ts).collector
	var why error
	// Daemons send every second, and the last spans come after the job.
	if !eventually(storyOf(ts).left(20*time.Second), func() bool { why = c.whole(args[0]); return why == nil }) {
		ts.Fatalf("%v\n%s", why, c)
	}
	_, err := fmt.Fprint(ts.Stdout(), c)
	ts.Check(err)
}

// whole says what is missing of a job's trace, or wrong with it.
func (c *collector) whole(job string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var root *span
	for _, s := range c.spans {
		if s.name == "job" && s.attributes["fallow.job"] == job {
			root = s
		}
	}
	if root == nil {
		return fmt.Errorf("no span of job %s", job)
	}
	hashes := map[string]bool{}
	for _, want := range below {
		n := 0
		for _, s := range c.spans {
			if s.trace != root.trace || s.name != want.name {
				continue
			}
			n++
			parent := ""
			if p := c.spans[s.parent]; p != nil {
				parent = p.name
				if p.trace != s.trace {
					return fmt.Errorf("%s stands below a span of another trace", s.name)
				}
			}
			if s.service != want.service || !slices.Contains(strings.Split(want.parent, " or "), parent) {
				return fmt.Errorf("%s is of %s below %q: want %s below %q", s.name, s.service, parent, want.service, want.parent)
			}
			if s.ended < s.begun {
				return fmt.Errorf("%s ends before it begins", s.name)
			}
			if s.name == "chain.transaction" {
				hashes[s.attributes["ledger.hash"]] = true
				if told := c.spans[s.parent].attributes; told["ledger.hash"] != s.attributes["ledger.hash"] || told["ledger.height"] != s.attributes["ledger.height"] || told["ledger.bytes"] != s.attributes["ledger.bytes"] {
					return fmt.Errorf("the tenant tells of transaction %v, the node of %v", told, s.attributes)
				}
			}
		}
		if n == 0 {
			return fmt.Errorf("no span %s in the trace", want.name)
		}
	}
	if len(hashes) < 2 {
		return fmt.Errorf("%d transactions of the job: want its opening and its close", len(hashes))
	}
	for _, s := range c.spans {
		for k, v := range s.attributes {
			if strings.ContainsAny(v, "/\x1b\n") || len(v) > 200 {
				return fmt.Errorf("%s says %s=%.80q", s.name, k, v)
			}
		}
	}
	return nil
}

// String lists what was told, by trace and time.
func (c *collector) String() string {
	c.mu.Lock() // daemons go on sending
	defer c.mu.Unlock()
	var all []*span
	for _, s := range c.spans {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *span) int {
		if a.trace != b.trace {
			return strings.Compare(a.trace, b.trace)
		}
		return int(int64(a.begun) - int64(b.begun))
	})
	var b strings.Builder
	for _, s := range all {
		parent := "nobody"
		if p := c.spans[s.parent]; p != nil {
			parent = p.name
		} else if s.parent != "" {
			parent = "one that is not here"
		}
		fmt.Fprintf(&b, "%s %s: %s below %s, %s\n", s.trace[:8], s.service, s.name, parent, time.Duration(s.ended-s.begun))
	}
	return b.String()
}
