// Package fault names the steps at which a process of Fallow may die, so that
// a test can kill it at each of them: a power cut, an out-of-memory killer and a
// kill -9 come at any step, and these are the ones where something was promised,
// signed or paid on one side of the step and not yet on the other.
//
// Its one invariant: a program built without the tag fault can't be killed by
// it. Point is then an empty function, and nothing reads the environment.
//
// Built with the tag, a process whose environment names a folder kills itself
// with SIGKILL when it passes the point that the folder's file "armed" names,
// and leaves the file "hit" there first. It injects no errors and no delays, and
// loses nothing that the kernel has: for that the disk's own tests exist.
package fault

// Folder is the variable of the environment that names the folder.
const Folder = "FALLOW_FAULT"

// Party is whose process passes a point.
type Party string

// The parties that die.
const (
	Tenant   Party = "tenant"
	Provider Party = "provider"
	Hub      Party = "hub"
	Node     Party = "node"
	Sandbox  Party = "sandbox" // a provider's child
)

// Step is one point.
type Step struct {
	Name    string // its room and what has just happened
	Parties []Party
}

// Steps are all points, in the order in which a job passes them. Each stands
// in the code exactly once, as a test shows.
func Steps() []Step {
	tenant, provider, hub, node := []Party{Tenant}, []Party{Provider}, []Party{Hub}, []Party{Node}
	return []Step{
		{"client/demand-written", tenant},
		{"hub/session-accepted", hub},
		{"hub/demand-queued", hub},
		{"provider/offer-held", provider},
		{"provider/offer-written", provider},
		{"hub/answer-taken", hub},
		{"client/offers-chosen", tenant},
		{"client/offers-written", tenant},
		{"ledger/signed", []Party{Tenant, Provider}},
		{"ledger/sent", []Party{Tenant, Provider}},
		{"chain/finalized", node},
		{"chain/committed", node},
		{"client/lease-seen", tenant},
		{"provider/lease-seen", provider},
		{"client/task-sent", tenant},
		{"provider/task-written", provider},
		{"provider/input-arrived", provider},
		{"wasm/guest-wrote", []Party{Sandbox}},
		{"provider/run-ended", provider},
		{"provider/receipt-signed", provider},
		{"provider/receipt-written", provider},
		{"client/receipt-got", tenant},
		{"client/outputs-fetched", tenant},
		{"client/outputs-placed", tenant},
		{"client/receipt-written", tenant},
		{"client/voucher-written", tenant},
		{"client/voucher-sent", tenant},
		{"provider/voucher-got", provider},
		{"provider/voucher-written", provider},
		{"provider/finish-written", provider},
		{"provider/release-signed", provider},
		{"provider/settled", provider},
		{"client/closed", tenant},
	}
}
