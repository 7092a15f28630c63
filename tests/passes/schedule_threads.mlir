// RUN: ck-opt %s -p rt-schedule-threads | filecheck %s
// RUN: ck-opt %s -p rt-schedule-threads,rt-schedule-threads | filecheck %s

// Rows feed rows of the same thread; a product reads all of them. Twice changes nothing.
// CHECK-LABEL: @rows_then_product
// CHECK:         rt.launch @g
// CHECK-NEXT:    rt.launch @g
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.call @k
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.launch @g
// CHECK-NEXT:    func.return
func.func @rows_then_product(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>, %z: memref<4x16xf32>) {
  rt.launch @g outs(%y : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.launch @g outs(%y : memref<4x16xf32>) ins(%y : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.call @k outs(%z : memref<4x16xf32>) ins(%y, %n : memref<4x16xf32>, index) {immediates = {}, split = "cols"}
  rt.launch @g outs(%x : memref<4x16xf32>) ins(%z : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  func.return
}

// Two products that only read in common run without one; a barrier that is not needed goes.
// CHECK-LABEL: @readers
// CHECK-NEXT:    rt.call @k
// CHECK-NEXT:    rt.call @k
// CHECK-NEXT:    func.return
func.func @readers(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>, %z: memref<4x16xf32>) {
  rt.call @k outs(%y : memref<4x16xf32>) ins(%x, %n : memref<4x16xf32>, index) {immediates = {}, split = "cols"}
  rt.barrier
  rt.call @k outs(%z : memref<4x16xf32>) ins(%x, %n : memref<4x16xf32>, index) {immediates = {}, split = "cols"}
  func.return
}

// Bytes count, not names: %b takes over the place of %a, which others still read.
// CHECK-LABEL: @same_bytes
// CHECK:         rt.call @k
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.launch @h
func.func @same_bytes(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>, %u: memref<4x32xf32>) {
  %arena = rt.arena : memref<512xi8>
  %a = rt.view %arena[0] : memref<512xi8> -> memref<4x16xf32>
  %b = rt.view %arena[0] : memref<512xi8> -> memref<4x32xf32>
  rt.call @k outs(%y : memref<4x16xf32>) ins(%a, %n : memref<4x16xf32>, index) {immediates = {}, split = "cols"}
  rt.launch @h outs(%b : memref<4x32xf32>) ins(%u : memref<4x32xf32>) live(%n) {rows_per_token = 1 : i64}
  func.return
}

// Two calls that add to one state wait for each other, and who reads a state for who writes it; other states and
// weights that nobody writes are read without.
// CHECK-LABEL: @states
// CHECK:         rt.call @a
// CHECK-NEXT:    rt.call @b
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.call @c
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.call @d
// CHECK-NEXT:    func.return
func.func @states(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) {
  %w = rt.weight @w : !ck.q<16x16xf32, rows>
  %g = rt.weight @grad.w : !ck.q<16x16xf32, rows>
  %h = rt.weight @grad.v : !ck.q<16x16xf32, rows>
  rt.call @a outs(%g : !ck.q<16x16xf32, rows>) ins(%x, %w, %n : memref<4x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.call @b outs(%h : !ck.q<16x16xf32, rows>) ins(%x, %w, %n : memref<4x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.call @c outs(%g : !ck.q<16x16xf32, rows>) ins(%x, %w, %n : memref<4x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.call @d outs(%y : memref<4x16xf32>) ins(%g, %n : !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "rows"}
  func.return
}
