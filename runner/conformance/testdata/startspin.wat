;; A start function that never ends.
(module
  (memory (export "memory") 1)
  (start $first)
  (func $first (loop $l (br $l)))
  (func (export "_start")))
