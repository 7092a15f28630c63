// RUN: ck-opt %s -p rt-schedule-threads,rt-plan-memory --verify-diagnostics | filecheck %s

// CHECK: rt-plan-memory: barriers stand before buffers share bytes: run it before rt-schedule-threads
func.func @f(%x: memref<4x16xf32>, %n: index, %y: memref<4x16xf32>) {
  %a = rt.alloc : memref<4x16xf32>
  rt.launch @g outs(%a : memref<4x16xf32>) ins(%x : memref<4x16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.call @k outs(%y : memref<4x16xf32>) ins(%a, %n : memref<4x16xf32>, index) {immediates = {}, split = "cols"}
  func.return
}
