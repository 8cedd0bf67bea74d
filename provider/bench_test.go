package provider

import "testing"

// BenchmarkTasks is what a task without work costs from the tenant's message
// to its signed, durable receipt, over HTTP/2 on loopback.
func BenchmarkTasks(b *testing.B) {
	w := newWorld(b, nil)
	c := w.tenant("anna", 10_000_000)
	c.rent(10_000_000, nil)
	k := c.connect()
	defer k.close()
	k.task(0, "noop")
	k.until(1)
	b.ResetTimer()
	const ahead = 512
	for i := range b.N {
		k.task(uint32(1+i), "small")
		if i >= ahead {
			k.until(1 + i - ahead)
		}
		if i%500 == 499 {
			k.pay()
		}
	}
	k.until(1 + b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}
