;; Each way to trap, chosen by the length of the first argument's bytes.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (type $none (func))
  (type $one (func (param i32)))
  (table 4 funcref)
  (elem (i32.const 0) $takes)
  (memory (export "memory") 1 2)
  (func $takes (param i32))
  (func (export "_start") (local $n i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (local.set $n (i32.sub (i32.load (i32.const 4)) (i32.const 1)))
    block $8 block $7 block $6 block $5 block $4 block $3 block $2 block $1 block $0
      (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 (local.get $n))
    end unreachable
    end (drop (i32.load (i32.const 65536))) return
    end (drop (i32.div_s (i32.const 1) (i32.const 0))) return
    end (drop (i32.div_s (i32.const 0x80000000) (i32.const -1))) return
    end (drop (i32.trunc_f32_s (f32.const nan))) return
    end (drop (i32.trunc_f64_u (f64.const -1))) return
    end (call_indirect (type $none) (i32.const 9)) return
    end (call_indirect (type $none) (i32.const 2)) return
    end (call_indirect (type $none) (i32.const 0))
  ))
