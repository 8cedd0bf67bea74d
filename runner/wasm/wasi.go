package wasm

import (
	"encoding/binary"
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
		"path_readlink":           no(errnoInval),
		"path_remove_directory":   (*run).pathRemoveDir,
		"path_rename":             (*run).pathRename,
		"path_symlink":            no(errnoNotSup),
		"path_unlink_file":        (*run).pathUnlink,

		"sock_accept":   no(errnoNotSock),
		"sock_recv":     no(errnoNotSock),
		"sock_send":     no(errnoNotSock),
		"sock_shutdown": no(errnoNotSock),
	}
}

func fault(okay bool) errno {
	if okay {
		return ok
	}
	return errnoFault
}

// list writes pointers and null-terminated strings.
func (r *run) list(all []string, s []uint64) errno {
	pointers, at := uint32(s[0]), uint32(s[1])
	for _, v := range all {
		b, okay := r.bytes(at, uint32(len(v)+1))
		if !okay || !r.putU32(pointers, at) {
			return errnoFault
		}
		copy(b, v)
		b[len(v)] = 0
		at += uint32(len(v) + 1)
		pointers += 4
	}
	return ok
}

func (r *run) listSizes(all []string, s []uint64) errno {
	size := 0
	for _, v := range all {
		size += len(v) + 1
	}
	return fault(r.putU32(uint32(s[0]), uint32(len(all))) && r.putU32(uint32(s[1]), uint32(size)))
}

func (r *run) clockRes(s []uint64) errno {
	if uint32(s[0]) > 3 {
		return errnoInval
	}
	return fault(r.putU64(uint32(s[1]), clockStep))
}

// clockTime gives the wall clock, or the others from the run's beginning.
func (r *run) clockTime(s []uint64) errno {
	v := r.now()
	switch uint32(s[0]) {
	case 0:
	case 1, 2, 3:
		v -= clockStart
	default:
		return errnoInval
	}
	return fault(r.putU64(uint32(s[2]), v))
}

func (r *run) randomGet(s []uint64) errno {
	r.chargeBytes(uint64(uint32(s[1])))
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

// poll answers subscriptions: files are always ready; when only clocks are
// asked for, the clock jumps to the nearest of them.
func (r *run) poll(s []uint64) errno {
	in, out, n := uint32(s[0]), uint32(s[1]), uint32(s[2])
	if n == 0 || n > maxSubscribes {
		return errnoInval
	}
	subs, okay := r.bytes(in, 48*n)
	events, okay2 := r.bytes(out, 32*n)
	if !okay || !okay2 {
		return errnoFault
	}
	subs = append([]byte(nil), subs...) // the two may overlap
	type timer struct {
		i  uint32
		at uint64
	}
	var timers []timer
	var fired [][32]byte
	event := func(i uint32, kind byte, e errno) {
		var b [32]byte
		copy(b[:8], subs[48*i:48*i+8])
		binary.LittleEndian.PutUint16(b[8:], uint16(e))
		b[10] = kind
		fired = append(fired, b)
	}
	for i := range n {
		sub := subs[48*i : 48*i+48]
		switch kind := sub[8]; kind {
		case 0:
			at := binary.LittleEndian.Uint64(sub[24:])
			absolute := binary.LittleEndian.Uint16(sub[40:])&1 != 0
			id := binary.LittleEndian.Uint32(sub[16:])
			switch {
			case id > 3:
				event(i, kind, errnoInval)
				continue
			case !absolute:
				at += r.clock
			case id != 0:
				at += clockStart
			}
			timers = append(timers, timer{i, at})
		case 1, 2:
			_, e := r.fd(binary.LittleEndian.Uint32(sub[16:]))
			event(i, kind, e)
		default:
			event(i, kind, errnoInval)
		}
	}
	if len(fired) == 0 {
		first := timers[0].at
		for _, t := range timers {
			first = min(first, t.at)
		}
		r.clock = max(r.clock, first)
	}
	for _, t := range timers {
		if t.at <= r.clock {
			event(t.i, 0, ok)
		}
	}
	for i := range fired {
		copy(events[32*i:], fired[i][:])
	}
	return fault(r.putU32(uint32(s[3]), uint32(len(fired))))
}
