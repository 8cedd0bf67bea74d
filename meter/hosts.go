package meter

import (
	"slices"
	"strings"
)

// HostModule is the only module that may be imported from.
const HostModule = "wasi_snapshot_preview1"

// Host is a host function: its type, in the letters of the schedule, and what
// a call costs beside the call instruction. The host charges it before it
// does anything, and 1 gas for each 2^BulkShift bytes that the call may move.
type Host struct {
	Name  string
	Sig   string // operands:results, i for i32 and I for i64
	Cost  int64
	Bytes bool // the call pays for its length as well, by 2^BulkShift bytes or as below
}

// What host functions charge beside their cost and their bytes, in gas.
const (
	GasPerPathByte     = 8  // of a path
	GasPerVector       = 16 // of those that a read or write names
	GasPerEntry        = 8  // of those that a listing or a rename goes over
	GasPerRandomByte   = 1  // of random_get: a cipher makes them
	GasPerSubscription = 64 // of poll_oneoff
)

// HostBytes is what a host call pays for the n bytes that it may move, at most
// 2^40 gas.
func HostBytes(n uint64) int64 {
	return int64((min(n, 1<<43-8) + 1<<BulkShift - 1) >> BulkShift)
}

// Hosts are the functions of WASI preview 1, by name.
var Hosts = [...]Host{
	{Name: "args_get", Sig: "ii:i", Cost: 200},
	{Name: "args_sizes_get", Sig: "ii:i", Cost: 200},
	{Name: "clock_res_get", Sig: "ii:i", Cost: 200},
	{Name: "clock_time_get", Sig: "iIi:i", Cost: 200},
	{Name: "environ_get", Sig: "ii:i", Cost: 200},
	{Name: "environ_sizes_get", Sig: "ii:i", Cost: 200},
	{Name: "fd_advise", Sig: "iIIi:i", Cost: 200},
	{Name: "fd_allocate", Sig: "iII:i", Cost: 1000, Bytes: true},
	{Name: "fd_close", Sig: "i:i", Cost: 400},
	{Name: "fd_datasync", Sig: "i:i", Cost: 200},
	{Name: "fd_fdstat_get", Sig: "ii:i", Cost: 200},
	{Name: "fd_fdstat_set_flags", Sig: "ii:i", Cost: 200},
	{Name: "fd_fdstat_set_rights", Sig: "iII:i", Cost: 200},
	{Name: "fd_filestat_get", Sig: "ii:i", Cost: 200},
	{Name: "fd_filestat_set_size", Sig: "iI:i", Cost: 1000, Bytes: true},
	{Name: "fd_filestat_set_times", Sig: "iIIi:i", Cost: 200},
	{Name: "fd_pread", Sig: "iiiIi:i", Cost: 1000, Bytes: true},
	{Name: "fd_prestat_dir_name", Sig: "iii:i", Cost: 200},
	{Name: "fd_prestat_get", Sig: "ii:i", Cost: 200},
	{Name: "fd_pwrite", Sig: "iiiIi:i", Cost: 1000, Bytes: true},
	{Name: "fd_read", Sig: "iiii:i", Cost: 1000, Bytes: true},
	{Name: "fd_readdir", Sig: "iiiIi:i", Cost: 1000, Bytes: true},
	{Name: "fd_renumber", Sig: "ii:i", Cost: 400},
	{Name: "fd_seek", Sig: "iIii:i", Cost: 400},
	{Name: "fd_sync", Sig: "i:i", Cost: 200},
	{Name: "fd_tell", Sig: "ii:i", Cost: 200},
	{Name: "fd_write", Sig: "iiii:i", Cost: 1000, Bytes: true},
	{Name: "path_create_directory", Sig: "iii:i", Cost: 1000},
	{Name: "path_filestat_get", Sig: "iiiii:i", Cost: 1000},
	{Name: "path_filestat_set_times", Sig: "iiiiIIi:i", Cost: 1000},
	{Name: "path_link", Sig: "iiiiiii:i", Cost: 1000},
	{Name: "path_open", Sig: "iiiiiIIii:i", Cost: 2000},
	{Name: "path_readlink", Sig: "iiiiii:i", Cost: 1000},
	{Name: "path_remove_directory", Sig: "iii:i", Cost: 1000},
	{Name: "path_rename", Sig: "iiiiii:i", Cost: 1000},
	{Name: "path_symlink", Sig: "iiiii:i", Cost: 1000},
	{Name: "path_unlink_file", Sig: "iii:i", Cost: 1000},
	{Name: "poll_oneoff", Sig: "iiii:i", Cost: 400, Bytes: true},
	{Name: "proc_exit", Sig: "i:", Cost: 200},
	{Name: "proc_raise", Sig: "i:i", Cost: 200},
	{Name: "random_get", Sig: "ii:i", Cost: 200, Bytes: true},
	{Name: "sched_yield", Sig: ":i", Cost: 200},
	{Name: "sock_accept", Sig: "iii:i", Cost: 200},
	{Name: "sock_recv", Sig: "iiiiii:i", Cost: 200},
	{Name: "sock_send", Sig: "iiiii:i", Cost: 200},
	{Name: "sock_shutdown", Sig: "ii:i", Cost: 200},
}

func findHost(module, name string) (Host, bool) {
	if module != HostModule {
		return Host{}, false
	}
	i, ok := slices.BinarySearchFunc(Hosts[:], name, func(h Host, n string) int { return strings.Compare(h.Name, n) })
	if !ok {
		return Host{}, false
	}
	return Hosts[i], true
}

// is says whether t is the host function's type.
func (h Host) is(t funcType) bool {
	params, results, _ := strings.Cut(h.Sig, ":")
	same := func(sig string, ts []byte) bool {
		if len(sig) != len(ts) {
			return false
		}
		for i := range ts {
			if valType(sig[i]) != ts[i] {
				return false
			}
		}
		return true
	}
	return same(params, t.params) && same(results, t.results)
}
