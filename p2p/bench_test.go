package p2p_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net/http"
	"runtime"
	"testing"

	"fallow.network/p2p"
)

// BenchmarkLightHost is what one more identity of a tenant costs.
func BenchmarkLightHost(b *testing.B) {
	var hosts []*p2p.Host
	before := runtime.NumGoroutine()
	var m0, m1 runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m0)
	for b.Loop() {
		_, priv, _ := ed25519.GenerateKey(rand.Reader)
		h, err := p2p.New(b.Context(), p2p.Config{Identity: priv})
		if err != nil {
			b.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&m1)
	n := float64(len(hosts))
	b.ReportMetric(float64(runtime.NumGoroutine()-before)/n, "goroutines/host")
	b.ReportMetric((float64(m1.HeapInuse+m1.StackInuse)-float64(m0.HeapInuse+m0.StackInuse))/n/1024, "KiB/host")
	for _, h := range hosts {
		_ = h.Close()
	}
}

// BenchmarkBulk moves blobs as GET bodies over TCP with TLS, and over QUIC.
func BenchmarkBulk(b *testing.B) {
	for _, kind := range []string{"tcp", "quic"} {
		b.Run(kind, func(b *testing.B) {
			listen := "/ip4/127.0.0.1/tcp/0"
			if kind == "quic" {
				listen = "/ip4/127.0.0.1/udp/0/quic-v1"
			}
			_, ka, _ := ed25519.GenerateKey(rand.Reader)
			_, kb, _ := ed25519.GenerateKey(rand.Reader)
			server, err := p2p.New(b.Context(), p2p.Config{Identity: ka, Role: p2p.RoleProvider, Listen: []string{listen}})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = server.Close() }()
			chunk := make([]byte, 256<<10)
			const size = 64 << 20
			if err := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for range size / len(chunk) {
					if _, err := w.Write(chunk); err != nil {
						return
					}
				}
			})); err != nil {
				b.Fatal(err)
			}
			light, err := p2p.New(b.Context(), p2p.Config{Identity: kb})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = light.Close() }()
			if _, err := light.Connect(b.Context(), server.Addrs()); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			for b.Loop() {
				resp, err := light.HTTPClient().Get(p2p.URL(server.Key()))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, chunk); n != size || err != nil {
					b.Fatal(n, err)
				}
				_ = resp.Body.Close()
			}
		})
	}
}
