package meter

import "fallow.network"

// ScheduleID names the gas schedule of this package. It stands in run profiles
// and receipts; whatever changes a module's gas, output or exit changes it.
const ScheduleID = "gas/2"

// The schedule beside the instructions' own costs, in gas.
const (
	// Quantum is what a module takes at once from its limit. A trap keeps the
	// quantum that it happened in.
	Quantum = 1 << 16
	// BulkShift: each 2^BulkShift bytes of a bulk memory instruction cost 1.
	BulkShift = 3
	// GasPerPage is added for each page that memory.grow asks for.
	GasPerPage = PageBytes >> BulkShift
	// GasPerElement is added for each element of a bulk table instruction.
	GasPerElement = 1
	// PageBytes is the size of a page of memory.
	PageBytes = 1 << 16
)

// The depth of calls is counted in slots of 8 bytes: a function that calls
// takes FrameSlots, one for each parameter, local and operand that it may hold
// at once (two if it is a v128), and one for each BodySlot bytes of its body.
const (
	FrameSlots = 8
	BodySlot   = 64
	// MaxFrameSlots bounds the frame of one function.
	MaxFrameSlots = 1 << 20
	// DefaultStackSlots is the depth that tasks get when they don't ask.
	DefaultStackSlots = 2 << 20
)

// Bounds on what a module may be.
const (
	MaxModuleBytes = 64 << 20
	MaxMetered     = 128 << 20 // bytes of code that the pass may write
	MaxWork        = 1 << 27   // operands and branches that the pass may look at
	MaxBodyBytes   = 7654321   // as in browsers
	MaxNameBytes   = 1 << 16
	MaxTypes       = 1 << 16
	MaxParams      = 255
	MaxResults     = 32
	MaxImports     = 1 << 10
	MaxFunctions   = 1 << 17
	MaxTables      = 16
	MaxTableElems  = 1 << 20 // also what table.grow may reach
	MaxMemoryPages = 1 << 16
	MaxGlobals     = 1 << 16
	MaxExports     = 1 << 17
	MaxSegments    = 1 << 17
	MaxLocals      = 50_000 // of one function
	MaxAllLocals   = 1 << 23
	MaxNesting     = 1 << 16
	MaxOperands    = 1 << 16
	MaxBranches    = 1 << 16 // of one br_table
)

// Names under which a metered module exports what the pass adds. All begin
// with Reserved, which no module's own export may.
const (
	Reserved = "fallow."
	// ExportReserve is a mutable i64: gas not taken yet, in whole quanta; below
	// zero after a trap, the limit is why.
	ExportReserve = "fallow.reserve"
	// ExportQuantum is a mutable i64: what is left of the quantum in use,
	// below zero where a block cost more than was left of it.
	ExportQuantum = "fallow.quantum"
	// ExportDepth is a mutable i32: slots of depth that are left; below zero
	// after a trap, the depth is why.
	ExportDepth = "fallow.depth"
	// ExportStart is the module's start function. It is no longer run by
	// instantiation, so that its gas is counted as well: call it first.
	ExportStart = "fallow.start"
)

// Profile is what a module is metered for.
type Profile struct {
	// MemoryPages is the memory granted, in pages of 64 KiB, at most
	// MaxMemoryPages: memory.grow fails beyond it on every machine.
	MemoryPages uint32
}

// Metered is a module that counts its own work.
type Metered struct {
	// Module is the rewritten module in the binary format.
	Module []byte
	// Start says that ExportStart is there and has to be called first.
	Start bool
	// Command says that the module exports _start, as WASI commands do.
	Command bool
	// Memory says that the module has a memory, and exports it as "memory".
	Memory bool
	// MinPages and MaxPages bound the memory, in pages of 64 KiB.
	MinPages, MaxPages uint32
	// Imports are the host functions that it imports, in the module's order.
	Imports []Host
}

// Account is the gas of one run as the host sees it. The module keeps the same
// two numbers in ExportReserve and ExportQuantum by the same rule. Begin with
// Open, which puts the limit's part of a quantum where it belongs.
type Account struct {
	Limit   fallow.Gas
	Reserve int64 // not taken yet, in whole quanta
	Quantum int64 // left of the quantum in use
}

// MaxGas bounds a limit, so that no sum of gas overflows.
const MaxGas fallow.Gas = 1 << 62

// Open is the account of a run that may use limit, at most MaxGas.
func Open(limit fallow.Gas) Account {
	limit = min(limit, MaxGas)
	part := int64(limit % Quantum)
	return Account{Limit: limit, Reserve: int64(limit) - part, Quantum: part}
}

// Charge takes n gas, at most 2^40, and says whether the limit covered it. A
// debt is paid in as many quanta as it takes.
func (a *Account) Charge(n int64) bool {
	a.Quantum -= n
	if a.Quantum >= 0 {
		return true
	}
	take := (Quantum - 1 - a.Quantum) &^ (Quantum - 1)
	a.Reserve -= take
	a.Quantum += take
	return a.Reserve >= 0
}

// Used is the gas of a run that came to its end. What it did after its last
// check may pass the limit, which caps it.
func (a *Account) Used() fallow.Gas {
	left := a.Reserve + a.Quantum
	return a.Limit - fallow.Gas(max(left, 0))
}

// Trapped is the gas of a run that ended in a trap, which keeps the quantum
// that it happened in.
func (a *Account) Trapped() fallow.Gas { return a.Limit - fallow.Gas(max(a.Reserve, 0)) }
