package wasm

import (
	"encoding/binary"

	"fallow.network/meter"
)

// calls is WASI preview 1 as a guest of ours finds it.
func calls() map[string]call {
	no := func(e errno) call { return func(*run, []uint64) errno { return e } }
	return map[string]call{
		"args_get":          func(r *run, s []uint64) errno { return r.list(r.task.Args, s) },
		"args_sizes_get":    func(r *run, s []uint64) errno { return r.listSizes(r.task.Args, s) },
		"environ_get":       func(r *run, s []uint64) errno { return r.list(r.task.Env, s) },
		"environ_sizes_get": func(r *run, s []uint64) errno { return r.listSizes(r.task.Env, s) },
		"clock_res_get":     (*run).clockRes,
		"clock_time_get":    (*run).clockTime,
		"random_get":        (*run).randomGet,
		"poll_oneoff":       (*run).poll,
		"sched_yield":       no(ok),
		"proc_exit":         (*run).procExit,
		"proc_raise":        no(errnoNoSys),

		"fd_advise":             (*run).fdKnown,
		"fd_allocate":           (*run).fdAllocate,
		"fd_close":              (*run).fdClose,
		"fd_datasync":           (*run).fdKnown,
		"fd_fdstat_get":         (*run).fdStat,
		"fd_fdstat_set_flags":   (*run).fdSetFlags,
		"fd_fdstat_set_rights":  (*run).fdKnown,
		"fd_filestat_get":       (*run).fdFileStat,
		"fd_filestat_set_size":  (*run).fdSetSize,
		"fd_filestat_set_times": (*run).fdKnown,
		"fd_pread":              (*run).fdPread,
		"fd_prestat_get":        (*run).prestat,
		"fd_prestat_dir_name":   (*run).prestatName,
		"fd_pwrite":             (*run).fdPwrite,
		"fd_read":               (*run).fdRead,
		"fd_readdir":            (*run).fdReadDir,
		"fd_renumber":           (*run).fdRenumber,
		"fd_seek":               (*run).fdSeek,
		"fd_sync":               (*run).fdKnown,
		"fd_tell":               (*run).fdTell,
		"fd_write":              (*run).fdWrite,

		"path_create_directory":   (*run).pathMakeDir,
		"path_filestat_get":       (*run).pathStat,
		"path_filestat_set_times": (*run).pathTimes,
		"path_link":               no(errnoNotSup),
		"path_open":               (*run).pathOpen,
		"path_readlink":           (*run).pathReadLink,
		"path_remove_directory":   (*run).pathRemoveDir,
		"path_rename":             (*run).pathRename,
		"path_symlink":            no(errnoNotSup),
		"path_unlink_file":        (*run).pathUnlink,

		"sock_accept":   (*run).socket,
		"sock_recv":     (*run).socket,
		"sock_send":     (*run).socket,
		"sock_shutdown": (*run).socket,
	}
}

func fault(okay bool) errno {
	if okay {
		return ok
	}
	return errnoFault
}

func listBytes(all []string) (size uint32) {
	for _, v := range all {
		size += uint32(len(v) + 1)
	}
	return size
}

// list writes pointers and null-terminated strings.
func (r *run) list(all []string, s []uint64) errno {
	size, count := listBytes(all), uint32(len(all))
	r.chargeBytes(uint64(size) + 4*uint64(count))
	at := uint32(s[1])
	pointers, okay := r.bytes(uint32(s[0]), 4*count)
	text, okay2 := r.bytes(at, size)
	if !okay || !okay2 {
		return errnoFault
	}
	for i, v := range all {
		binary.LittleEndian.PutUint32(pointers[4*i:], at)
		n := copy(text, v)
		text[n] = 0
		text = text[n+1:]
		at += uint32(n + 1)
	}
	return ok
}

func (r *run) listSizes(all []string, s []uint64) errno {
	return fault(r.putU32(uint32(s[0]), uint32(len(all))) && r.putU32(uint32(s[1]), listBytes(all)))
}

func (r *run) clockRes(s []uint64) errno {
	if uint32(s[0]) > 3 {
		return errnoInval
	}
	return fault(r.putU64(uint32(s[1]), clockStep))
}

// clockTime gives the wall clock, or the others from the run's beginning.
func (r *run) clockTime(s []uint64) errno {
	if uint32(s[0]) > 3 {
		return errnoInval
	}
	v := r.now()
	if uint32(s[0]) != 0 {
		v -= clockStart
	}
	return fault(r.putU64(uint32(s[2]), v))
}

func (r *run) randomGet(s []uint64) errno {
	r.charge(meter.GasPerRandomByte * int64(uint32(s[1])))
	b, okay := r.bytes(uint32(s[0]), uint32(s[1]))
	if !okay {
		return errnoFault
	}
	_, _ = r.random.Read(b) // never fails
	return ok
}

func (r *run) procExit(s []uint64) errno {
	r.exited, r.exitCode = true, uint32(s[0])
	r.stop()
	return ok
}

// socket answers for all calls on sockets: there are none.
func (r *run) socket(s []uint64) errno {
	if _, e := r.fd(uint32(s[0])); e != ok {
		return e
	}
	return errnoNotSock
}

// Sizes and tags of poll_oneoff.
const (
	subscriptionBytes = 48
	eventBytes        = 32

	pollClock = 0
	pollRead  = 1
	pollWrite = 2
)

// poll answers subscriptions: files are always ready; when only clocks are
// asked for, the clock jumps to the nearest of them. Events stand in the order
// of the subscriptions.
func (r *run) poll(s []uint64) errno {
	n := uint32(s[2])
	if n == 0 || n > maxSubscribes {
		return errnoInval
	}
	r.charge(meter.GasPerSubscription * int64(n))
	in, okay := r.bytes(uint32(s[0]), subscriptionBytes*n)
	out, okay2 := r.bytes(uint32(s[1]), eventBytes*n)
	if !okay || !okay2 {
		return errnoFault
	}
	in = append([]byte(nil), in...) // the two may overlap
	r.tree.store.waste += int64(len(in))
	asked := r.clock
	first, waits := uint64(clockEnd), true
	for i := range n {
		at, is := timer(in[subscriptionBytes*i:], asked)
		first = min(first, at)
		waits = waits && is
	}
	if waits {
		r.clock = max(r.clock, first)
	}
	fired := uint32(0)
	for i := range n {
		sub := in[subscriptionBytes*i:]
		e := ok
		switch sub[8] {
		case pollClock:
			at, is := timer(sub, asked)
			if is && at > r.clock {
				continue
			}
			if !is {
				e = errnoInval
			}
		case pollRead, pollWrite:
			_, e = r.fd(binary.LittleEndian.Uint32(sub[16:]))
		default:
			e = errnoInval
		}
		event := out[eventBytes*fired : eventBytes*(fired+1)]
		clear(event)
		copy(event[:8], sub[:8])
		binary.LittleEndian.PutUint16(event[8:], uint16(e))
		event[10] = sub[8]
		fired++
	}
	return fault(r.putU32(uint32(s[3]), fired))
}

// timer reads a subscription to a clock: when it fires, by the wall clock,
// where it was asked for now.
func timer(sub []byte, now uint64) (at uint64, is bool) {
	id := binary.LittleEndian.Uint32(sub[16:])
	if sub[8] != pollClock || id > 3 {
		return clockEnd, false
	}
	at = min(binary.LittleEndian.Uint64(sub[24:]), clockEnd)
	absolute := binary.LittleEndian.Uint16(sub[40:])&1 != 0
	switch {
	case !absolute:
		at += now
	case id != 0:
		at += clockStart
	}
	return min(at, clockEnd), true
}
