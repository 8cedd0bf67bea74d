package wasm

import (
	"encoding/binary"
	"testing"

	"fallow.network/meter"
)

// FuzzCalls has a guest make any host calls with any arguments. None may break
// the host, none may write outside of the guest's files, and what is
// counted of them stays true.
func FuzzCalls(f *testing.F) {
	seed := func(calls ...uint64) (b []byte) {
		for _, v := range calls {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return b
	}
	index := map[string]uint64{}
	for i, h := range meter.Hosts {
		index[h.Name] = uint64(i)
	}
	f.Add("/scratch/a", seed(index["path_open"], 3, 0, 0, 10, 1, 66, 0, 0, 32768, index["fd_write"], 4, 16384, 1, 32768, index["fd_seek"], 4, 0, 0, 32768, index["fd_read"], 4, 16384, 1, 32768))
	f.Add("/out/d", seed(index["path_create_directory"], 3, 0, 6, index["path_rename"], 3, 0, 6, 3, 0, 6, index["fd_readdir"], 3, 65536, 4096, 0, 32768))
	f.Add("/in/../out/./x", seed(index["path_open"], 3, 0, 0, 14, 9, 66, 0, 0, 32768, index["fd_allocate"], 4, 0, 1<<20, index["fd_filestat_set_size"], 4, 1<<62, index["path_unlink_file"], 3, 0, 14))
	f.Add("", seed(index["poll_oneoff"], 0, 4096, 1<<40, 8192, index["random_get"], 0, 0xffffffff, index["args_get"], 0xfffffff0, 0xfffffff0))
	f.Fuzz(func(t *testing.T, path string, b []byte) {
		if len(path) > 8<<10 || len(b) > 8<<10 {
			return
		}
		g := newGuest(t, func(task *Task, _ *blobs) { task.Limits.Output, task.Limits.Scratch = 1<<20, 1<<20 })
		defer g.r.close()
		g.metered()
		copy(g.m.b, path)
		copy(g.m.b[atName2:], path)
		g.vector(make([]byte, 100))
		next := func() (v uint64) {
			var word [8]byte
			b = b[copy(word[:], b):]
			return binary.LittleEndian.Uint64(word[:])
		}
		for len(b) > 0 {
			h := meter.Hosts[next()%uint64(len(meter.Hosts))]
			var args []uint64
			for _, c := range h.Sig {
				if c == ':' {
					break
				}
				v := next()
				if c == 'i' { // the engine gives 32 bits
					v = uint64(uint32(v))
				}
				args = append(args, v)
			}
			if len(args) == 0 {
				args = make([]uint64, 1) // where the result goes
			}
			if _, end := g.call(h.Name, args...); end != nil {
				break
			}
		}
		g.sound()
	})
}
