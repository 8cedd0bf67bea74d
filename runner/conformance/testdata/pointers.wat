;; Hands the host pointers out of bounds; exits with the sum of the errors.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\00\00\00\00\ff\ff\ff\ff")
  (func (export "_start")
    (call $exit (i32.add (i32.add (i32.add (i32.add (i32.add (i32.add
      (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))
      (call $write (i32.const 1) (i32.const -4) (i32.const 1) (i32.const 16)))
      (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
      (call $write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 16)))
      (call $random (i32.const 65530) (i32.const 7)))
      (call $open (i32.const 3) (i32.const 0) (i32.const -1) (i32.const 100) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 16)))
      (call $poll (i32.const 0) (i32.const 0) (i32.const 100000) (i32.const 16))))))
