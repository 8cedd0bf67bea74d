package wasm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"

	"github.com/tetratelabs/wazero/sys"

	"fallow.network"
	"fallow.network/meter"
)

// The guest's clock begins here (2024-01-01T00:00:00Z) and moves by a
// millisecond for each time it is asked, up to clockEnd (in 2262): no run can
// tell fast from slow.
const (
	clockStart = 1_704_067_200_000_000_000
	clockStep  = 1_000_000
	clockEnd   = math.MaxInt64
)

// Bounds of one host call.
const (
	maxVectors    = 1024
	maxSubscribes = 1024
)

const (
	// callWaste is about what a host call leaves to the garbage collector, and
	// maxWaste how much may gather before it runs.
	callWaste = 256
	maxWaste  = 32 << 20
)

// run is the state of one guest's run.
type run struct {
	task   Task
	tree   *tree
	inputs *inputs
	fds    []*descriptor
	clock  uint64
	random *rand.ChaCha8
	listed int // entries that open folders remember

	stdin          *node
	stdout, stderr *node

	// Gas, when metered.
	metered  bool
	account  meter.Account
	reserve  cell
	quantum  cell
	depth    cell
	memory   memory // exported as "memory"; nil before the first host call
	trap     string // by the host's own hand
	host     error  // the host ran out of something
	exited   bool
	exitCode uint32

	table   [][]byte // of vectors, used again
	scratch []byte
}

// descriptor is an open file or folder.
type descriptor struct {
	node   *node
	offset int64
	flags  uint16
	read   bool
	write  bool
	stream bool    // stdin, stdout, stderr
	root   bool    // the preopened folder
	begun  bool    // listed
	list   []*node // a folder's entries when it was last listed from its beginning
}

func newRun(t Task, in *inputs) (*run, error) {
	tr, err := newTree(t, in)
	if err != nil {
		return nil, err
	}
	r := &run{task: t, tree: tr, inputs: in, clock: clockStart, random: rand.NewChaCha8(seed(t.Seed))}
	r.stdin = &node{name: "stdin", readOnly: true}
	if t.Stdin != nil {
		path, known := t.Paths[*t.Stdin]
		if !known {
			return nil, abort(fallow.ReasonAborted, "stdin has no file here")
		}
		r.stdin.input = &input{what: "stdin", path: path, digest: *t.Stdin, size: -1}
		if err := in.ready(r.stdin.input); err != nil {
			return nil, err
		}
	}
	stream := func(name string) *node {
		return &node{name: name, data: &content{in: &tr.store}, kind: areaOutput}
	}
	r.stdout, r.stderr = stream("stdout"), stream("stderr")
	r.fds = []*descriptor{
		{node: r.stdin, read: true, stream: true},
		{node: r.stdout, write: true, stream: true, flags: fdAppend},
		{node: r.stderr, write: true, stream: true, flags: fdAppend},
		{node: tr.root, root: true},
	}
	return r, nil
}

// seed is where the guest's random numbers begin: 32 bytes as they are, or the
// digest of any other number of them.
func seed(b []byte) [32]byte {
	if len(b) == 32 {
		return [32]byte(b)
	}
	return sha256.Sum256(b)
}

func (r *run) close() {
	r.tree.store.close()
	r.inputs.close()
}

// stop ends the guest from inside a host call: by what wazero takes for that,
// and other engines' adapters catch.
func (r *run) stop() { panic(sys.NewExitError(1)) }

// stopTrap ends the guest with a trap that repeats.
func (r *run) stopTrap(word string) {
	r.trap = word
	r.stop()
}

// stopHost ends the guest because the host failed: an abort.
func (r *run) stopHost(err error) {
	r.host = err
	r.stop()
}

// charge takes the gas of a host call before it does anything.
func (r *run) charge(n int64) {
	if !r.metered {
		return
	}
	r.account.Reserve, r.account.Quantum = int64(r.reserve.Get()), int64(r.quantum.Get())
	covered := r.account.Charge(n)
	r.reserve.Set(uint64(r.account.Reserve))
	r.quantum.Set(uint64(r.account.Quantum))
	if !covered {
		r.stopTrap(TrapOutOfGas)
	}
}

func (r *run) chargeBytes(n uint64) { r.charge(meter.HostBytes(n)) }

// sweep collects garbage from inside a host call. While a guest computes no
// collection can run: it would wait for compiled code, which has no points to
// stop at, and spin.
func (r *run) sweep() {
	if r.tree.store.waste += callWaste; r.tree.store.waste >= maxWaste {
		r.tree.store.waste = 0
		runtime.GC()
	}
}

// now is the guest's clock; asking moves it.
func (r *run) now() uint64 {
	r.clock = min(r.clock+clockStep, clockEnd)
	return r.clock
}

// Memory access; false is a fault of the guest's pointer.
func (r *run) bytes(at, n uint32) ([]byte, bool) {
	if r.memory == nil {
		return nil, false
	}
	return r.memory.Read(at, n)
}

func (r *run) putU32(at, v uint32) bool { return r.memory != nil && r.memory.WriteUint32Le(at, v) }
func (r *run) putU64(at uint32, v uint64) bool {
	return r.memory != nil && r.memory.WriteUint64Le(at, v)
}

// vectors reads an iovec array: places and lengths, and their sum.
func (r *run) vectors(at, n uint32) ([][]byte, uint32, errno) {
	if n > maxVectors {
		return nil, 0, errnoInval
	}
	r.charge(meter.GasPerVector * int64(n))
	table, okay := r.bytes(at, 8*n)
	if !okay {
		return nil, 0, errnoFault
	}
	out := r.table[:0]
	var sum uint64
	for i := range n {
		b, okay := r.bytes(binary.LittleEndian.Uint32(table[8*i:]), binary.LittleEndian.Uint32(table[8*i+4:]))
		if !okay {
			return nil, 0, errnoFault
		}
		out = append(out, b)
		sum += uint64(len(b))
	}
	r.table = out
	if sum > math.MaxUint32 {
		return nil, 0, errnoInval
	}
	return out, uint32(sum), ok
}

// text reads a path of the guest's.
func (r *run) text(at, n uint32) (string, errno) {
	if n > maxPathLen {
		return "", errnoNameTooLong
	}
	r.charge(meter.GasPerPathByte * int64(n))
	b, okay := r.bytes(at, n)
	if !okay {
		return "", errnoFault
	}
	r.tree.store.waste += int64(n)
	return string(b), ok
}

func (r *run) fd(n uint32) (*descriptor, errno) {
	if uint64(n) >= uint64(len(r.fds)) || r.fds[n] == nil {
		return nil, errnoBadF
	}
	return r.fds[n], ok
}

// vacant is the lowest free number for a descriptor.
func (r *run) vacant() (int, errno) {
	for i, have := range r.fds {
		if have == nil {
			return i, ok
		}
	}
	if len(r.fds) >= maxFDs {
		return 0, errnoMFile
	}
	r.fds = append(r.fds, nil)
	return len(r.fds) - 1, ok
}

// call is a host function on a run; args and results share a stack.
type call func(r *run, s []uint64) errno

// hostCall is a host function with what it costs.
type hostCall struct {
	meter.Host
	do     call
	result bool // it gives an errno
}

// hostCalls are every function that the meter admits.
func hostCalls() ([]hostCall, error) {
	table := calls()
	all := make([]hostCall, len(meter.Hosts))
	for i, h := range meter.Hosts {
		f, known := table[h.Name]
		if !known {
			return nil, errors.New("no host function " + h.Name)
		}
		all[i] = hostCall{h, f, !strings.HasSuffix(h.Sig, ":")}
	}
	return all, nil
}

// on makes the call, charged by the schedule first.
func (c *hostCall) on(r *run, s []uint64) {
	r.sweep()
	r.charge(c.Cost)
	if e := c.do(r, s); c.result {
		s[0] = uint64(e)
	}
}
