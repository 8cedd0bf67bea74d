// Package formats reads the files that people write: our own short job file
// (docs/job-file.md) and Bacalhau's WASM jobs. Both become one plain Job.
//
// Its one invariant: what a file says and this version cannot do is an error
// with file, line, column, field and what to do; nothing is dropped silently.
//
// It opens no files: the Host that the caller passes answers for globs and for
// whether an input is there, and client reads the inputs.
package formats

import (
	"time"

	"fallow.network"
	"fallow.network/market"
	"fallow.network/spec"
)

// Bounds of a job file.
const (
	// MaxFileBytes bounds the file itself.
	MaxFileBytes = 256 << 10
	// MaxExpandedBytes bounds all text of all tasks after expansion.
	MaxExpandedBytes = 64 << 20
	// MaxVariables bounds the names under foreach.
	MaxVariables = 8
	// maxNesting bounds folded brackets and list markers in the file.
	maxNesting = 64
)

// Defaults of limits that a job does not name.
const (
	DefaultGas     fallow.Gas = 1_000_000_000_000
	DefaultMemory             = 256 << 20
	DefaultOutput             = 64 << 20
	DefaultScratch            = 256 << 20
	DefaultWall               = 10 * time.Minute
)

// Job is a parsed file: one module and its tasks, paths still on the host.
type Job struct {
	// Format is "fallow" or "bacalhau".
	Format string
	Name   string
	// Module is the host path of the WASM module, relative to the file's folder.
	Module string
	Tasks  []Task
	Limits spec.Limits
	// Budget bounds what the whole job may cost; 0 names none.
	Budget fallow.Credits
	// Deadline bounds the whole job's wall time; 0 names none.
	Deadline time.Duration
	// Slots bounds the tasks that run at once; 0 leaves it to the client.
	Slots     uint32
	Checks    Checks
	Placement market.Placement
	Collect   Collect
	// Notes say what of the file has no meaning here, for people.
	Notes []string
}

// Task is one run of the module, with host paths.
type Task struct {
	// Label tells tasks apart for people, as frame=7.
	Label   string
	Args    []string
	Env     []string
	Stdin   string // host path, empty for none
	Inputs  []Input
	Outputs []string
}

// Input is a host file that the guest sees at /in/<Path>.
type Input struct{ Path, File string }

// CheckMode says how many tasks are run again to check them.
type CheckMode string

// Modes of checking.
const (
	CheckAuto   CheckMode = "auto"   // at the rate that incentives ask for
	CheckAlways CheckMode = "always" // every task
	CheckNever  CheckMode = "never"  // none: the bill says so
)

// CheckWhere says who runs checks.
type CheckWhere string

// Places where checks run; the empty one leaves it to the client's config.
const (
	WhereOwn    CheckWhere = "own"    // this machine
	WhereMarket CheckWhere = "market" // another provider, drawn by chance
	WhereBoth   CheckWhere = "both"   // either
)

// Checks is a job's word on checking.
type Checks struct {
	Mode CheckMode `json:"mode"`
	// MinimumPPM is the least rate in parts per million.
	MinimumPPM uint32     `json:"minimum_ppm"`
	Where      CheckWhere `json:"where"`
}

// Collect says what to make of the outputs; empty paths make nothing.
type Collect struct {
	Frames       string `json:"frames"` // pattern of the frames' outputs
	FPS          uint32 `json:"fps"`
	GIF          string `json:"gif"` // host paths, relative to the working folder
	MP4          string `json:"mp4"`
	ContactSheet string `json:"contact_sheet"`
}

// Host answers for the machine that the file lies on. Paths are
// slash-separated and relative to the file's folder, or absolute.
type Host interface {
	// Glob lists the regular files that match, ascending, in path.Match's syntax.
	Glob(pattern string) ([]string, error)
	// Check fails when there is no readable regular file at path.
	Check(path string) error
}

// Parse reads a job file. file names it in errors; host may be nil, and then
// globs fail and inputs are not looked for. Its error is an Errors.
func Parse(file string, data []byte, host Host) (*Job, error) {
	r := &reader{file: file, host: host, missing: map[string]bool{}}
	root, ok := r.document(data)
	if !ok {
		return nil, r.result()
	}
	var job *Job
	if isBacalhau(root) {
		job = r.bacalhau(root)
	} else {
		job = r.native(root)
	}
	if err := r.result(); err != nil {
		return nil, err
	}
	return job, nil
}

func defaultLimits() spec.Limits {
	return spec.Limits{
		Gas:          DefaultGas,
		MemoryBytes:  DefaultMemory,
		OutputBytes:  DefaultOutput,
		ScratchBytes: DefaultScratch,
		StackDepth:   spec.DefaultStackDepth,
		WallMillis:   uint64(DefaultWall / time.Millisecond),
	}
}
