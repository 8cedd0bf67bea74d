package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"fallow.network"
	"fallow.network/client"
	"fallow.network/sdk"
)

// begin submits a job of so many no-op tasks, changed as wanted, and runs it.
func (b *bench) begin(ctx context.Context, t *sdk.Tenant, name string, tasks int, change func(*client.Options), watch client.Events) (*client.Bill, error) {
	file, err := b.net.job(name, tasks, "never")
	if err != nil {
		return nil, err
	}
	job, err := client.ReadJob(file)
	if err != nil {
		return nil, err
	}
	o := client.OptionsOf(job)
	o.Out = filepath.Join(b.net.dir, "out", name)
	change(&o)
	id, err := t.Submit(ctx, job, client.Folder(b.net.dir), o)
	if err != nil {
		return nil, err
	}
	bill, err := t.Run(ctx, id, watch)
	switch {
	case err != nil:
		return bill, err
	case bill.Done != tasks:
		return bill, fmt.Errorf("%d of %d tasks done: %s", bill.Done, tasks, bill.Reason)
	}
	return bill, nil
}

// withTenant opens the tenant here, so that its events can be timed.
func (b *bench) withTenant(ctx context.Context, do func(*sdk.Tenant) error) error {
	t, err := b.net.tenant(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(t), t.Close())
}

// onLeases runs do on standing leases, which it closes.
func onLeases(ctx context.Context, t *sdk.Tenant, wish client.LeaseWish, do func([]fallow.LeaseID) error) error {
	open, err := t.OpenLeases(ctx, wish, nil)
	if err != nil {
		return err
	}
	var ids []fallow.LeaseID
	for _, l := range open {
		ids = append(ids, l.ID)
	}
	return errors.Join(do(ids), t.CloseLeases(ctx, ids, nil))
}

// firm is for how many blocks an offer that nobody took keeps what it offers.
const firm = 30

// rested waits until no provider holds anything for an earlier question.
func rested(ctx context.Context, t *sdk.Tenant) error {
	head, err := t.Purse.Client.Head(ctx)
	if err != nil {
		return err
	}
	_, err = t.Purse.Client.WaitHeight(ctx, head.Height+firm+3)
	return err
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// latency runs tasks one after the other in one lease. A slot's next task is
// sent before the last one ended, as the client always does; a task's time
// begins when its slot is free for it.
func (b *bench) latency(ctx context.Context) error {
	return b.withTenant(ctx, func(t *sdk.Tenant) error {
		return onLeases(ctx, t, client.LeaseWish{Slots: 1, Reserve: 50_000}, func(ids []fallow.LeaseID) error {
			var (
				issued         = map[uint32]time.Time{}
				free           time.Time
				inSlot, inLine []time.Duration
			)
			_, err := b.begin(ctx, t, "latency", b.tasks, func(o *client.Options) { o.Leases = ids }, func(e client.Event) {
				switch e := e.(type) {
				case client.TaskIssued:
					issued[e.Task] = time.Now()
				case client.TaskDone:
					now := time.Now()
					began := issued[e.Task]
					inLine = append(inLine, now.Sub(began))
					if free.After(began) {
						began = free
					}
					inSlot, free = append(inSlot, now.Sub(began)), now
				}
			})
			if err != nil {
				return err
			}
			for _, p := range []struct {
				name       string
				part, goal float64
			}{{"p50", 0.5, 3}, {"p95", 0.95, 10}} {
				took := at(inSlot, p.part)
				row := Row{
					What: "no-op task inside a lease over loopback, " + p.name, Value: millis(took), Unit: "ms", Goal: p.goal,
					Note: fmt.Sprintf("of %d in one slot; %.3g ms with the wait for the slot", b.tasks, millis(at(inLine, p.part))),
				}
				if b.noop > 0 {
					row.Ratio, row.Baseline = float64(took)/float64(b.noop), "sandbox alone"
				}
				b.add(row)
			}
			return nil
		})
	})
}

// leaseCosts opens and closes leases of all three providers, and takes what the
// node used beyond what it uses when idle.
func (b *bench) leaseCosts(ctx context.Context) error {
	if b.idleCPU == 0 { // --only left out what measures it
		if _, err := b.rest(ctx); err != nil {
			return err
		}
	}
	return b.withTenant(ctx, func(t *sdk.Tenant) error {
		node, begun := b.net.pids["node"], time.Now()
		before, err := processorTime(node)
		if err != nil {
			return err
		}
		var blocks []int64
		opened := 0
		for range b.leases {
			head, err := t.Purse.Client.Head(ctx)
			if err != nil {
				return err
			}
			err = onLeases(ctx, t, client.LeaseWish{Leases: 3, Slots: 1, Reserve: 10_000}, func(ids []fallow.LeaseID) error {
				opened += len(ids)
				l, err := t.Purse.Client.Lease(ctx, ids[0])
				if err != nil {
					return err
				}
				blocks = append(blocks, l.GetOpenedHeight()-int64(head.Height))
				return nil
			})
			if err != nil {
				return err
			}
		}
		after, err := processorTime(node)
		if err != nil {
			return err
		}
		slices.Sort(blocks)
		idle := time.Duration(b.idleCPU * float64(time.Since(begun)))
		used := after - before - idle
		b.add(Row{
			What: "blocks from question to active lease, p50", Value: float64(blocks[len(blocks)/2]), Unit: "blocks", Goal: 1,
			Note: fmt.Sprintf("of %d; at most %d; the wait for answers is in it", len(blocks), blocks[len(blocks)-1]),
		}, Row{
			What: "node's CPU a lease opened and closed", Value: millis(used) / float64(opened), Unit: "ms", Goal: 5,
			Ratio: float64(after-before) / float64(max(idle, 1)), Baseline: "idle node",
			Note: fmt.Sprintf("%d leases, three in a message; %.0f ms in all over %.3g s, %.0f ms of them as when idle", opened, millis(after-before), time.Since(begun).Seconds(), millis(idle)),
		})
		return nil
	})
}
