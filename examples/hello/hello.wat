;; The least guest: greets whom it reads on stdin. hello.wasm beside it is this
;; text and nothing else (make here builds it again, wasm2wat shows it), and is
;; kept so that a first job needs no compiler.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\20\00\00\00\00\10\00\00") ;; a list of one: 4096 bytes at 32
  (data (i32.const 8) "\19\00\00\00\07\00\00\00") ;; a list of one: "hello, " at 25
  (data (i32.const 25) "hello, ")
  (func (export "_start")
    ;; The bytes read and written go to 16.
    (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16))
      (then (unreachable)))
    ;; Write the greeting and the name as one line that begins at 25.
    (i32.store (i32.const 12) (i32.add (i32.load (i32.const 16)) (i32.const 7)))
    (if (call $fd_write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16))
      (then (unreachable)))))
