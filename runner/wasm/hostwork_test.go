package wasm

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"fallow.network/receipt"
)

// hostWork are programs that do nothing but ask their host, the body of a loop
// each. Beside them stands what they have in memory and read.
var hostWork = []struct {
	name, imports, body, data string
	stdin                     int
}{
	{name: "compute", body: strings.Repeat("local.get 1 i32.const 3 i32.mul local.set 1 ", 20)},
	{name: "sched_yield", imports: "sched_yield", body: "call sched_yield drop"},
	{name: "clock_time_get", imports: "clock_time_get", body: "i32.const 0 i64.const 1 i32.const 64 call clock_time_get drop"},
	{name: "args_sizes_get", imports: "args_sizes_get", body: "i32.const 64 i32.const 68 call args_sizes_get drop"},
	{name: "args_get, 1 KiB", imports: "args_get", body: "i32.const 64 i32.const 128 call args_get drop"},
	{name: "random_get, 8 bytes", imports: "random_get", body: "i32.const 64 i32.const 8 call random_get drop"},
	{name: "random_get, 64 KiB", imports: "random_get", body: "i32.const 64 i32.const 65536 call random_get drop"},
	{name: "poll_oneoff, 1", imports: "poll_oneoff", body: "i32.const 1024 i32.const 65536 i32.const 1 i32.const 64 call poll_oneoff drop"},
	{name: "poll_oneoff, 1000", imports: "poll_oneoff", body: "i32.const 65536 i32.const 131072 i32.const 1000 i32.const 64 call poll_oneoff drop"},
	{name: "fd_write, 1 byte, memory", imports: "fd_pwrite", body: "i32.const 4 i32.const 0 i32.const 1 i64.const 7 i32.const 64 call fd_pwrite drop"},
	{name: "fd_write, 64 KiB, memory", imports: "fd_pwrite", body: "i32.const 4 i32.const 8 i32.const 1 i64.const 7 i32.const 64 call fd_pwrite drop"},
	{name: "fd_write, 1000 vectors, memory", imports: "fd_pwrite", body: "i32.const 4 i32.const 65536 i32.const 1000 i64.const 7 i32.const 64 call fd_pwrite drop"},
	{name: "fd_write, 1 byte, disk", imports: "fd_pwrite", body: "i32.const 5 i32.const 0 i32.const 1 i64.const 7 i32.const 64 call fd_pwrite drop"},
	{name: "fd_write, 64 KiB, disk", imports: "fd_pwrite", body: "i32.const 5 i32.const 8 i32.const 1 i64.const 7 i32.const 64 call fd_pwrite drop"},
	{name: "fd_read, 1 byte, input", imports: "fd_pread", body: "i32.const 6 i32.const 0 i32.const 1 i64.const 7 i32.const 64 call fd_pread drop"},
	{name: "fd_read, 64 KiB, input", imports: "fd_pread", body: "i32.const 6 i32.const 8 i32.const 1 i64.const 7 i32.const 64 call fd_pread drop"},
	{name: "fd_seek", imports: "fd_seek", body: "i32.const 4 i64.const 7 i32.const 0 i32.const 64 call fd_seek drop"},
	{name: "fd_fdstat_get", imports: "fd_fdstat_get", body: "i32.const 4 i32.const 64 call fd_fdstat_get drop"},
	{name: "fd_filestat_get", imports: "fd_filestat_get", body: "i32.const 4 i32.const 64 call fd_filestat_get drop"},
	{name: "grow and cut, 1 MiB", imports: "fd_filestat_set_size", body: "i32.const 4 i64.const 1048576 call fd_filestat_set_size drop i32.const 4 i64.const 0 call fd_filestat_set_size drop"},
	{name: "grow and cut, 64 MiB", imports: "fd_filestat_set_size", body: "i32.const 4 i64.const 67108864 call fd_filestat_set_size drop i32.const 4 i64.const 0 call fd_filestat_set_size drop"},
	{name: "path_filestat_get", imports: "path_filestat_get", body: "i32.const 3 i32.const 0 i32.const 256 i32.const 9 i32.const 64 call path_filestat_get drop"},
	{name: "path_filestat_get, 4000 bytes", imports: "path_filestat_get", body: "i32.const 3 i32.const 0 i32.const 256000 i32.const 4000 i32.const 64 call path_filestat_get drop"},
	{name: "path_open and fd_close", imports: "path_open fd_close", body: "i32.const 3 i32.const 0 i32.const 256 i32.const 9 i32.const 0 i64.const 2 i64.const 0 i32.const 0 i32.const 64 call path_open drop i32.const 8 call fd_close drop"},
	{name: "create and remove", imports: "path_create_directory path_remove_directory", body: "i32.const 3 i32.const 272 i32.const 9 call path_create_directory drop i32.const 3 i32.const 272 i32.const 9 call path_remove_directory drop"},
	{name: "path_rename", imports: "path_rename", body: "i32.const 3 i32.const 256 i32.const 9 i32.const 3 i32.const 256 i32.const 9 call path_rename drop"},
	{name: "fd_readdir of 4000, first", imports: "fd_readdir", body: "i32.const 7 i32.const 400000 i32.const 100 i64.const 0 i32.const 64 call fd_readdir drop"},
	{name: "fd_readdir of 4000, all", imports: "fd_readdir", body: "i32.const 7 i32.const 400000 i32.const 200000 i64.const 0 i32.const 64 call fd_readdir drop"},
}

// BenchmarkHost tells how fast each host call burns gas, beside plain
// computing. What is far slower is too cheap in the schedule.
func BenchmarkHost(b *testing.B) {
	memory := make([]byte, 600_000)
	put := func(at int, vs ...uint32) {
		for i, v := range vs {
			binary.LittleEndian.PutUint32(memory[at+4*i:], v)
		}
	}
	put(0, 512, 1, 512, 65536)
	copy(memory[256:], "scratch/a")
	copy(memory[272:], "scratch/~")
	copy(memory[256000:], strings.Repeat("scratch/../", 363)+"scratch")
	for i := range 1000 {
		put(65536+8*i, 512, 1)
	}
	s := open(b, 1)
	for _, w := range hostWork {
		b.Run(strings.ReplaceAll(w.name, " ", "_"), func(b *testing.B) {
			imports := strings.Fields(w.imports)
			for _, n := range []string{"path_open", "fd_filestat_set_size"} {
				if !slices.Contains(imports, n) {
					imports = append(imports, n)
				}
			}
			// 4: a file in memory, 5: one on disk, 6: an input, 7: a folder of many, 8: what comes next
			data := append([]byte(nil), memory...)
			copy(data[300:], "scratch/a")
			copy(data[320:], "tmp/disk")
			copy(data[340:], "in/file")
			copy(data[360:], "in/many")
			setup := ""
			for _, f := range []struct{ at, n, flags, rights int }{{300, 9, 1, 66}, {320, 8, 1, 66}, {340, 7, 0, 2}, {360, 7, 2, 2}} {
				setup += fmt.Sprintf("i32.const 3 i32.const 0 i32.const %d i32.const %d i32.const %d i64.const %d i64.const 0 i32.const 0 i32.const 64 call path_open drop ", f.at, f.n, f.flags, f.rights)
			}
			setup += "i32.const 4 i64.const 200000 call fd_filestat_set_size drop i32.const 5 i64.const 2000000 call fd_filestat_set_size drop "
			run := func(n int) Result {
				task, bl := taskOf(b, assemble(b, source{imports: imports, pages: 16, data: string(data), funcs: []string{
					"locals 3 " + setup + "loop " + w.body + fmt.Sprintf(" local.get 0 i32.const 1 i32.add local.tee 0 i32.const %d i32.lt_u br_if 0 end", n),
				}}))
				task.Args = []string{strings.Repeat("a", 1023)}
				task.Files = []receipt.File{bl.file("file", make([]byte, 1<<20))}
				for i := range 4000 {
					task.Files = append(task.Files, receipt.File{Path: fmt.Sprintf("many/%04d", i), Blob: task.Files[0].Blob})
				}
				task.Limits.Gas, task.Limits.Scratch = 1<<50, 100<<20
				r := mustRun(b, s, task)
				if r.Outcome != receipt.Exited {
					b.Fatalf("got %+v", r)
				}
				return r
			}
			base := run(1)
			r := run(b.N)
			took := (r.CPU - base.CPU).Seconds()
			b.ReportMetric(took/float64(b.N)*1e9, "ns/call")
			b.ReportMetric(float64(r.Gas-base.Gas)/float64(b.N), "gas/call")
			b.ReportMetric(float64(r.Gas-base.Gas)/took/1e9, "Ggas/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
