package client

import (
	"time"

	"fallow.network"
	"fallow.network/market"
)

// Event is something that happened to a job, for whoever watches: a display,
// lines on a terminal, JSON. Events are facts of the past; a watcher can stop
// nothing. The fields are what people are shown.
type Event interface{ event() }

// Events takes events, one after the other, from one goroutine. It must be
// quick; nil drops them.
type Events func(Event)

// StateChanged tells of a job's state.
type StateChanged struct {
	Job    JobID
	State  State
	Reason string // of a failure
}

// DemandSent tells that the market was asked.
type DemandSent struct {
	Demand    fallow.Digest
	Hubs      int
	Providers int // asked directly
	Tasks     int // that need an offer
	Again     bool
}

// OfferSeen tells of an offer.
type OfferSeen struct {
	Provider fallow.Account
	NodeKey  fallow.Key
	Region   string
	GasPrice fallow.Pico // for 1,000,000 gas
	TaskFee  fallow.Pico
	Slots    uint32
	Score    market.Score // of 1000, with its parts
	Latency  time.Duration
}

// Declined tells of a provider that makes no offer, and why.
type Declined struct {
	Provider fallow.Account
	Reason   fallow.Reason
	Detail   string
}

// LeaseOpened tells of a lease.
type LeaseOpened struct {
	Lease    fallow.LeaseID
	Provider fallow.Account
	NodeKey  fallow.Key
	Reserve  fallow.Credits
	Slots    uint32
	Resumed  bool
}

// LeaseSkipped tells of an offer that opened none.
type LeaseSkipped struct {
	Provider fallow.Account
	Reason   fallow.Reason
}

// LeaseEnded tells how a lease ended on this side.
type LeaseEnded struct {
	Lease    fallow.LeaseID
	Provider fallow.Account
	Reason   fallow.Reason
	Paid     fallow.Pico
}

// ProviderLost tells of a connection that broke.
type ProviderLost struct {
	Lease    fallow.LeaseID
	Provider fallow.Account
	Detail   string
	// Gone says that its tasks went elsewhere.
	Gone bool
}

// ProviderBack tells of a connection that came back.
type ProviderBack struct {
	Lease    fallow.LeaseID
	Provider fallow.Account
}

// TaskIssued tells that a task was handed out.
type TaskIssued struct {
	Task     uint32
	Label    string
	Attempt  uint32
	Lease    fallow.LeaseID
	Provider fallow.Account
	Kind     AttemptKind
}

// TaskDone tells of a task with a receipt and outputs that hash right.
type TaskDone struct {
	Task     uint32
	Label    string
	Lease    fallow.LeaseID
	Provider fallow.Account
	Gas      fallow.Gas
	Charge   fallow.Pico
	Took     time.Duration
	Exit     string // empty for exit code 0
	Done     int    // tasks done so far
	Of       int
}

// AttemptEnded tells that a lease is not at a task any more, and that it was
// neither the task's result nor a failure: a check, or a copy that was not
// needed.
type AttemptEnded struct {
	Task     uint32
	Attempt  uint32
	Lease    fallow.LeaseID
	Provider fallow.Account
	Kind     AttemptKind
	// Cancelled says that it has no receipt.
	Cancelled bool
}

// TaskFailed tells of an attempt without a result.
type TaskFailed struct {
	Task     uint32
	Label    string
	Provider fallow.Account
	Reason   fallow.Reason
	Detail   string
	Again    bool // it will be tried elsewhere
}

// CheckChosen tells that a task is run again.
type CheckChosen struct {
	Task     uint32
	Provider fallow.Account
	By       string // "own" or the checking provider
}

// CheckDone tells what a check found.
type CheckDone struct {
	Task     uint32
	Provider fallow.Account
	By       string
	Agreed   bool
	Skipped  string // why there was no check after all
	Detail   string // what differs
}

// Verdict tells whom a third run found wrong.
type Verdict struct {
	Task     uint32
	Wrong    fallow.Account // empty when it decided nothing
	Detail   string
	Reopened int // tasks of the wrong one that are run again
}

// Paid tells of a voucher.
type Paid struct {
	Lease    fallow.LeaseID
	Provider fallow.Account
	Amount   fallow.Pico // of the lease so far
	Receipts uint32
	Total    fallow.Pico // of the job so far
}

// Away tells that the ledger does not answer and that the client goes on trying.
type Away struct {
	What string
	For  time.Duration
}

// Back tells that the ledger answers again.
type Back struct{ What string }

// Warning tells of something that a person may want to know.
type Warning struct{ Text string }

func (StateChanged) event() {}
func (DemandSent) event()   {}
func (OfferSeen) event()    {}
func (Declined) event()     {}
func (LeaseOpened) event()  {}
func (LeaseSkipped) event() {}
func (LeaseEnded) event()   {}
func (ProviderLost) event() {}
func (ProviderBack) event() {}
func (TaskIssued) event()   {}
func (TaskDone) event()     {}
func (TaskFailed) event()   {}
func (AttemptEnded) event() {}
func (CheckChosen) event()  {}
func (CheckDone) event()    {}
func (Verdict) event()      {}
func (Paid) event()         {}
func (Away) event()         {}
func (Back) event()         {}
func (Warning) event()      {}
