// RUN: ck-opt %s -p rt-plan-memory | filecheck %s

// %a is dead when %c begins: they share bytes. The arena is no larger than what is alive at once.
// CHECK-LABEL: @chain
// CHECK-NEXT:    %arena = rt.arena : memref<512xi8>
// CHECK-NEXT:    %a = rt.view %arena[0 : i64] : memref<512xi8> -> memref<4x16xf32>
// CHECK:         %b = rt.view %arena[256 : i64]
// CHECK:         %c = rt.view %arena[0 : i64]
// CHECK-NOT:     rt.alloc
func.func @chain(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) {
  %a = rt.alloc : memref<4x16xf32>
  rt.launch @g outs(%a : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  %b = rt.alloc : memref<4x16xf32>
  rt.launch @g outs(%b : memref<4x16xf32>) ins(%a : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  %c = rt.alloc : memref<4x16xf32>
  rt.launch @g outs(%c : memref<4x16xf32>) ins(%b : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.launch @g outs(%y : memref<4x16xf32>) ins(%c : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  func.return
}

// A view keeps its buffer alive; sizes are rounded up to a cache line.
// CHECK-LABEL: @view
// CHECK-NEXT:    %arena = rt.arena : memref<384xi8>
// CHECK-NEXT:    %a = rt.view %arena[0 : i64] : memref<384xi8> -> memref<4x15xf32>
// CHECK-NEXT:    %v = rt.view %a[0 : i64]
// CHECK:         %b = rt.view %arena[256 : i64] : memref<384xi8> -> memref<4x5xf32>
func.func @view(%x: memref<4x15xf32>, %n: index, %y: memref<12x5xf32>) {
  %a = rt.alloc : memref<4x15xf32>
  %v = rt.view %a[0] : memref<4x15xf32> -> memref<12x5xf32>
  rt.launch @g outs(%a : memref<4x15xf32>) ins(%x : memref<4x15xf32>) live(%n) {rows_per_token = 1 : i64}
  %b = rt.alloc : memref<4x5xf32>
  rt.launch @h outs(%b : memref<4x5xf32>) ins(%x : memref<4x15xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.launch @k outs(%y : memref<12x5xf32>) ins(%v, %b : memref<12x5xf32>, memref<4x5xf32>) live(%n) {rows_per_token = 3 : i64}
  func.return
}

// Nothing to do.
// CHECK-LABEL: @nothing
// CHECK-NEXT:    rt.launch @g
// CHECK-NEXT:    func.return
func.func @nothing(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) {
  rt.launch @g outs(%y : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  func.return
}
