package client

import (
	"context"
	"errors"

	"fallow.network"
	"fallow.network/trace"
)

// traced ends the span of a job.
func (r *run) traced(span trace.Span, err error) {
	if !r.c.trace.On() {
		return
	}
	for id := range r.spans { // what was out when the job ended
		r.unfollow(id, fallow.ReasonCancelled)
	}
	span.Text("fallow.job", string(r.rec.ID)).Text("fallow.state", string(r.rec.State)).
		Int("fallow.tasks", int64(len(r.board.tasks))).Int("fallow.done", int64(r.board.done)).Int("fallow.leases", int64(len(r.stations)))
	var task *TaskError
	var offers *NoOffersError
	var budget *BudgetError
	switch {
	case err == nil:
		span.End("")
	case errors.Is(err, ErrCancelled):
		span.End(fallow.ReasonCancelled)
	case errors.As(err, &task):
		span.End(task.Reason)
	case errors.As(err, &offers):
		span.End(fallow.ReasonNoCapacity)
	case errors.As(err, &budget):
		span.End(fallow.ReasonFunds)
	default:
		span.Done(err)
	}
}

// follow begins the span of an attempt, from its hand-out to its receipt. The
// provider gets the span's name with the task.
func (r *run) follow(ctx context.Context, a *attempt) {
	_, s := r.c.trace.Begin(ctx, "task")
	r.spans[a.attemptID] = s.Int("fallow.task", int64(a.task)).Int("fallow.attempt", int64(a.attempt)).
		Int("fallow.lease", int64(a.lease)).Text("fallow.kind", string(a.kind))
}

// unfollow ends an attempt's span.
func (r *run) unfollow(id attemptID, reason fallow.Reason) {
	if s, ok := r.spans[id]; ok {
		delete(r.spans, id)
		s.End(reason)
	}
}
