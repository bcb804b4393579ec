;; A contract that does everything wrong, for callers to survive. faulty.wasm is made of it: wat2wasm faulty.wat
(module
  (import "fondaco_v1" "output" (func $output (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\18\01\63ten")
  (func (export "fondaco_abi_1"))
  (func (export "trap") (result i32) unreachable)
  (func (export "divide") (result i32) i32.const 1 i32.const 0 i32.div_u)
  (func (export "spin") (result i32) (loop (br 0)) unreachable)
  (func (export "sink") (result i32) call 5)
  (func (export "grow") (result i32) i32.const 1000 memory.grow drop unreachable)
  (func (export "garble") (result i32) i32.const 0 i32.const 2 call $output i32.const 0)
  (func (export "balance_of") (result i32) i32.const 2 i32.const 4 call $output i32.const 0) ;; a text
  (func (export "refuse") (result i32) i32.const 7777)
)
