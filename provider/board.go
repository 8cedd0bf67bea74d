package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"connectrpc.com/connect"

	"fallow.network"
	hubv1 "fallow.network/api/hub"
	marketv1 "fallow.network/api/market"
	"fallow.network/spec"
	"fallow.network/trace"
	"fallow.network/wire"
)

// maxAnswering is how many demands of one hub are answered at once.
const maxAnswering = 64

// boards holds a stream to each hub until ctx ends.
func (d *Daemon) boards(ctx context.Context) {
	c, _ := d.config()
	var wg sync.WaitGroup
	for _, hub := range c.Hubs {
		wg.Go(func() { d.keepBoard(ctx, hub) })
	}
	wg.Wait()
}

func (d *Daemon) keepBoard(ctx context.Context, hub string) {
	retry := retryFirst
	for {
		began := d.now()
		err := d.holdBoard(ctx, hub)
		d.setHub(hub, false)
		if ctx.Err() != nil {
			return
		}
		if d.now().Sub(began) > 10*time.Second {
			retry = retryFirst
		}
		d.log.WarnContext(ctx, "a hub is away; leases go on and other hubs bring demands", slog.String("hub", hub), slog.Any("error", err))
		if !sleep(ctx, retry) {
			return
		}
		retry = min(2*retry, retryMost)
	}
}

// holdBoard announces this provider at a hub and answers demands until the
// stream breaks.
func (d *Daemon) holdBoard(ctx context.Context, hub string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := d.courier.Hub(ctx, hub)
	if err != nil {
		return err
	}
	stream := client.Board(ctx)
	defer func() { _ = stream.CloseResponse() }()
	// HTTP/2 hears of a cancelled context only once the request's body ends.
	hung := context.AfterFunc(ctx, func() { _ = stream.CloseRequest() })
	defer hung()
	var (
		wg     sync.WaitGroup
		sendMu sync.Mutex
	)
	// Answers that are on their way end with ctx.
	defer wg.Wait()
	defer cancel()
	send := func(m *hubv1.BoardRequest) error {
		sendMu.Lock()
		defer sendMu.Unlock()
		return stream.Send(m)
	}
	changed := d.courier.Changed()
	if err := send(&hubv1.BoardRequest{Announcement: d.announcement()}); err != nil {
		return sendError(stream, err)
	}
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-d.reloaded():
			}
			changed = d.courier.Changed()
			if err := send(&hubv1.BoardRequest{Announcement: d.announcement()}); err != nil {
				cancel()
				return
			}
		}
	})
	slots := make(chan struct{}, maxAnswering)
	for {
		m, err := stream.Receive()
		if err != nil {
			return err
		}
		if p := m.GetProtocol(); p != "" && p != fallow.Protocol {
			return fmt.Errorf("it speaks %.40q and this program %s: upgrade the older one", p, fallow.Protocol)
		}
		if r := m.GetReason(); r != "" {
			return fmt.Errorf("it refused the announcement: %.200s", r)
		}
		d.setHub(hub, true)
		if m.GetDemand() == nil {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := d.reply(trace.With(ctx, m.GetTraceparent()), m.GetDemand(), send); err != nil && ctx.Err() == nil {
				d.log.DebugContext(ctx, "a demand got no answer", slog.String("hub", hub), slog.Any("error", err))
			}
		})
	}
}

// sendError is what ended a stream, which sending only knows as its end.
func sendError(stream *connect.BidiStreamForClient[hubv1.BoardRequest, hubv1.BoardResponse], err error) error {
	if _, got := stream.Receive(); got != nil {
		return errors.Join(err, got)
	}
	return err
}

func (d *Daemon) reply(ctx context.Context, m *marketv1.Signed, send func(*hubv1.BoardRequest) error) error {
	s, err := wire.Signed(m)
	if err != nil {
		return err
	}
	a, err := d.answer(ctx, s)
	if err != nil {
		return err
	}
	id := s.ID()
	return send(&hubv1.BoardRequest{Reply: &hubv1.SealedReply{Demand: id[:], Answer: a}})
}

// announcement is what hubs and clients learn of this provider.
func (d *Daemon) announcement() *hubv1.Announcement {
	c, _ := d.config()
	lent := d.capacity.usage().Lent
	a := &hubv1.Announcement{
		Provider: string(c.Provider), NodeKey: d.node[:], Classes: []string{string(fallow.ClassWASM)}, Region: c.Region,
		LargestSlot: &marketv1.Resources{MilliCpu: lent.MilliCPU, MemoryBytes: lent.MemoryBytes, DiskBytes: lent.DiskBytes, Gpus: lent.GPUs, GpuModel: lent.GPUModel},
		Addrs:       d.addrs(), Protocol: fallow.Protocol, Profiles: []string{spec.ProfileWASM},
	}
	for _, at := range c.attributes() {
		a.Attributes = append(a.Attributes, &marketv1.Attribute{Key: at.Key, Value: at.Value})
	}
	return a
}
