;; Exits with how many pages it was given beyond its first.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $n i32)
    (loop $l
      (if (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0))
        (then (local.set $n (i32.add (local.get $n) (i32.const 1))) (br $l))))
    (call $exit (local.get $n))))
