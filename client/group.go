package client

import (
	"context"
	"sync"
)

// group is goroutines that are waited for.
type group struct {
	ctx context.Context //nolint:containedctx // the life of the group itself
	wg  sync.WaitGroup
}

func newGroup(ctx context.Context) *group { return &group{ctx: ctx} }

// run starts f; its context ends with the group's.
func (g *group) run(f func(context.Context)) { g.wg.Go(func() { f(g.ctx) }) }

func (g *group) wait() { g.wg.Wait() }
