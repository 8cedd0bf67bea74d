package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"fallow.network"
	"fallow.network/meter"
	"fallow.network/spec"
)

// The guest's clock begins here (2024-01-01T00:00:00Z) and moves by a
// millisecond for each time it is asked: no run can tell fast from slow.
const (
	clockStart = 1_704_067_200_000_000_000
	clockStep  = 1_000_000
)

// Bounds of one host call.
const (
	maxVectors    = 1024
	maxSubscribes = 1024
)

// run is the state of one guest's run.
type run struct {
	task   Task
	tree   *tree
	fds    []*descriptor
	clock  uint64
	random *rand.ChaCha8

	stdin          *node
	stdout, stderr *node

	// Gas, when metered.
	metered  bool
	account  meter.Account
	reserve  api.MutableGlobal
	quantum  api.MutableGlobal
	depth    api.MutableGlobal
	memory   api.Memory
	trap     string // by the host's own hand
	host     error  // the host ran out of something
	exited   bool
	exitCode uint32
}

// descriptor is an open file or folder.
type descriptor struct {
	node   *node
	offset int64
	flags  uint16
	read   bool
	write  bool
	stream bool // stdin, stdout, stderr
	names  []string
	root   bool // the preopened folder
}

func newRun(t Task) (*run, error) {
	tr, err := newTree(t)
	if err != nil {
		return nil, err
	}
	r := &run{task: t, tree: tr, clock: clockStart}
	var seed [32]byte
	copy(seed[:], t.Seed)
	r.random = rand.NewChaCha8(seed)
	r.stdin = &node{name: "stdin", readOnly: true, data: &content{}}
	if t.Stdin != nil {
		host, found := t.Paths[*t.Stdin]
		if !found {
			tr.close()
			return nil, abort(fallow.ReasonAborted, "stdin has no file here")
		}
		size, err := fileSize(host)
		if err != nil {
			tr.close()
			return nil, err
		}
		r.stdin = &node{name: "stdin", readOnly: true, host: host, hostSize: size}
	}
	r.stdout = &node{name: "stdout", data: &content{}, kind: areaOutput}
	r.stderr = &node{name: "stderr", data: &content{}, kind: areaOutput}
	r.fds = []*descriptor{
		{node: r.stdin, read: true, stream: true},
		{node: r.stdout, write: true, stream: true, flags: fdAppend},
		{node: r.stderr, write: true, stream: true, flags: fdAppend},
		{node: tr.root, root: true},
	}
	return r, nil
}

func (r *run) close() {
	r.tree.close()
	for _, n := range []*node{r.stdin, r.stdout, r.stderr} {
		if n.data != nil {
			n.data.close()
		}
		if n.opened != nil {
			_ = n.opened.Close() // read only
		}
	}
}

// stop ends the guest from inside a host call.
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

// now is the guest's clock; asking moves it.
func (r *run) now() uint64 {
	r.clock += clockStep
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
func (r *run) vectors(at, n uint32) ([][]byte, uint64, errno) {
	if n > maxVectors {
		return nil, 0, errnoInval
	}
	table, okay := r.bytes(at, 8*n)
	if !okay {
		return nil, 0, errnoFault
	}
	out := make([][]byte, 0, n)
	var sum uint64
	for i := range n {
		b, okay := r.bytes(binary.LittleEndian.Uint32(table[8*i:]), binary.LittleEndian.Uint32(table[8*i+4:]))
		if !okay {
			return nil, 0, errnoFault
		}
		out = append(out, b)
		sum += uint64(len(b))
	}
	return out, sum, ok
}

// text reads a string of the guest's.
func (r *run) text(at, n uint32) (string, errno) {
	if n > maxPathLen {
		return "", errnoNameTooLong
	}
	b, okay := r.bytes(at, n)
	if !okay {
		return "", errnoFault
	}
	return string(b), ok
}

func (r *run) fd(n uint32) (*descriptor, errno) {
	if int(n) >= len(r.fds) || r.fds[n] == nil {
		return nil, errnoBadF
	}
	return r.fds[n], ok
}

// open gives the lowest free number to a descriptor.
func (r *run) open(d *descriptor) (uint32, errno) {
	d.node.opens++
	for i, have := range r.fds {
		if have == nil {
			r.fds[i] = d
			return uint32(i), ok
		}
	}
	if len(r.fds) >= maxFDs {
		d.node.opens--
		return 0, errnoMFile
	}
	r.fds = append(r.fds, d)
	return uint32(len(r.fds) - 1), ok
}

type runKey struct{}

// call is a host function on a run; args and results share a stack.
type call func(r *run, s []uint64) errno

// instantiateHost gives the runtime its WASI: every function that the meter
// admits, each charged by the schedule first.
func instantiateHost(ctx context.Context, rt wazero.Runtime) error {
	b := rt.NewHostModuleBuilder(meter.HostModule)
	table := calls()
	for _, h := range meter.Hosts {
		f, known := table[h.Name]
		if !known {
			return errors.New("no host function " + h.Name)
		}
		params, results := signature(h.Sig)
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, _ api.Module, s []uint64) {
			r := ctx.Value(runKey{}).(*run)
			r.charge(h.Cost)
			e := f(r, s)
			if len(results) > 0 {
				s[0] = uint64(e)
			}
		}), params, results).Export(h.Name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// signature turns the schedule's letters into value types.
func signature(sig string) (params, results []api.ValueType) {
	to := &params
	for _, c := range sig {
		switch c {
		case ':':
			to = &results
		case 'I':
			*to = append(*to, api.ValueTypeI64)
		default:
			*to = append(*to, api.ValueTypeI32)
		}
	}
	return params, results
}

// profileKnown says whether this runner runs a profile.
func profileKnown(p string) bool { return p == spec.ProfileWASM1 }
