package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"
)

// wall times a program of which a shell starts one after the other.
func wall(times int, do func() error) ([]time.Duration, error) {
	all := make([]time.Duration, 0, times)
	for range times {
		began := time.Now()
		if err := do(); err != nil {
			return nil, err
		}
		all = append(all, time.Since(began))
	}
	return all, nil
}

// coldStarts measures the verbs that ask nobody, beside a program that does
// nothing at all.
func (b *bench) coldStarts(ctx context.Context) error {
	sh := func(command string) func() error {
		return func() error {
			cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command+" >/dev/null")
			cmd.Env = append(b.net.env, "FALLOW="+b.net.fallow)
			return cmd.Run()
		}
	}
	nothing, err := wall(b.starts, sh("/bin/true"))
	if err != nil {
		return err
	}
	least := at(nothing, 0.5)
	for _, v := range []struct {
		verb string
		goal float64 // ms
	}{{"version", 30}, {"jobs", 60}} {
		all, err := wall(b.starts, sh(`"$FALLOW" `+v.verb))
		if err != nil {
			return err
		}
		p50 := at(all, 0.5)
		b.add(Row{
			What: "fallow " + v.verb + " from a cold shell, p50", Value: millis(p50), Unit: "ms", Goal: v.goal,
			Ratio: float64(p50) / float64(least), Baseline: "/bin/true", Note: fmt.Sprintf("of %d; p95 %.3g ms; /bin/true %.3g ms", b.starts, millis(at(all, 0.95)), millis(least)),
		})
	}
	return nil
}

// wholeJobs measures fallow run of one task that does nothing: question,
// answers, lease, task, check, voucher and closing.
func (b *bench) wholeJobs(ctx context.Context) error {
	job, err := b.net.job("noop", 1, "auto")
	if err != nil {
		return err
	}
	var firsts, walls []time.Duration
	all, err := wall(b.runs, func() error {
		var bill report
		err := b.net.ask(ctx, &bill, "run", job, "--quiet", "--out", b.net.dir+"/out")
		firsts, walls = append(firsts, bill.First), append(walls, bill.Wall)
		return err
	})
	if err != nil {
		return err
	}
	p50 := at(all, 0.5)
	b.add(Row{
		What: "fallow run of one no-op task, lease included, p50", Value: millis(p50), Unit: "ms", Goal: 1600, Ratio: p50.Seconds(), Baseline: "block time",
		Note: fmt.Sprintf("of %d, fastest %.0f ms, slowest %.0f ms; vouchers are with the providers and the closing with a node", b.runs, millis(at(all, 0)), millis(at(all, 1))),
	}, Row{
		What: "of it, until the result is there, p50", Value: millis(at(firsts, 0.5)), Unit: "ms", Ratio: at(firsts, 0.5).Seconds(), Baseline: "block time",
		Note: fmt.Sprintf("the job is done and its closing on its way at %.0f ms", millis(at(walls, 0.5))),
	})
	return nil
}

// report is what fallow run --json prints, as far as it is wanted here.
type report struct {
	First time.Duration `json:"first_output_ns"`
	Wall  time.Duration `json:"wall_ns"`
}

// leasedJobs measures the same on a lease that stands open.
func (b *bench) leasedJobs(ctx context.Context) error {
	job, err := b.net.job("noop", 1, "auto")
	if err != nil {
		return err
	}
	var leases []struct {
		ID uint64 `json:"id"`
	}
	if err := b.net.ask(ctx, &leases, "lease", "open", "--reserve", "0.05"); err != nil {
		return err
	}
	if len(leases) != 1 {
		return fmt.Errorf("%d leases", len(leases))
	}
	id := fmt.Sprint(leases[0].ID)
	all, err := wall(b.starts, func() error {
		_, err := b.net.run(ctx, "run", job, "--quiet", "--out", b.net.dir+"/out", "--lease", id)
		return err
	})
	if err != nil {
		return err
	}
	version, err := wall(b.runs, func() error {
		_, err := b.net.run(ctx, "version")
		return err
	})
	if err != nil {
		return err
	}
	b.add(Row{
		What: "the same on a lease already open, p50", Value: millis(at(all, 0.5)), Unit: "ms", Goal: 150,
		Ratio: float64(at(all, 0.5)) / float64(at(version, 0.5)), Baseline: "fallow version", Note: fmt.Sprintf("of %d; p95 %.3g ms", b.starts, millis(at(all, 0.95))),
	})
	_, err = b.net.run(ctx, "lease", "close", id)
	return err
}
