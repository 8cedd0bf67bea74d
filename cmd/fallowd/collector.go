package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How often garbage is collected, where GOMEMLIMIT and GOGC say nothing. A
// node that idles stays below 200 MB: it collects when the heap has grown by
// half, and more often above a soft limit. Under load that would cost more
// than all it does for its transactions, so it may take more memory then, and
// gives it back when calm returns.
const (
	idleGrowth = 50
	idleMemory = 160 << 20
	busyGrowth = 200
	busyMemory = 400 << 20

	// busyAllocs is how many bytes a second a node allocates that is no longer
	// idle; calm is how many seconds below it end that.
	busyAllocs = 16 << 20
	calm       = 10
	lookEvery  = time.Second
)

// collector sets the garbage collector by what the node allocates.
type collector struct {
	growth, memory bool // ours to set
	busy           bool
	calm           int
	allocs         uint64
}

// newCollector begins as for an idle node.
func newCollector() *collector {
	c := &collector{growth: os.Getenv("GOGC") == "", memory: os.Getenv("GOMEMLIMIT") == ""}
	c.set(idleGrowth, idleMemory)
	c.allocs = allocated()
	return c
}

func (c *collector) set(growth int, memory int64) {
	if c.growth {
		debug.SetGCPercent(growth)
	}
	if c.memory {
		debug.SetMemoryLimit(memory)
	}
}

// run looks on until ctx ends.
func (c *collector) run(ctx context.Context) {
	if !c.growth && !c.memory {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.look(allocated())
		}
	}
}

// look takes what was allocated so far, in bytes, and says whether the node
// is busy.
func (c *collector) look(allocs uint64) bool {
	grown := allocs - c.allocs
	c.allocs = allocs
	switch {
	case grown >= busyAllocs:
		c.calm = 0
		if !c.busy {
			c.busy = true
			c.set(busyGrowth, busyMemory)
		}
	case c.busy:
		if c.calm++; c.calm >= calm {
			c.busy = false
			c.set(idleGrowth, idleMemory)
			debug.FreeOSMemory()
		}
	}
	return c.busy
}

// allocated is how many bytes this process has allocated since it began.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
