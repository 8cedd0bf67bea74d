;; A start function is run, and counted, before _start.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (global $n (mut i32) (i32.const 1))
  (start $first)
  (func $first (global.set $n (i32.const 42)))
  (func (export "_start") (call $exit (global.get $n))))
