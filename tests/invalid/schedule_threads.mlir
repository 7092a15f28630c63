// RUN: ck-opt %s -p rt-reroll-layers,rt-schedule-threads --verify-diagnostics | filecheck %s

// CHECK: rt-schedule-threads: layers are rolled up: run it before rt-reroll-layers
func.func @f(%x: memref<1x16xf32>, %n: index) {
  %v = rt.weight @blk.0.norm : memref<16xf32>
  rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %v : memref<1x16xf32>, memref<16xf32>) live(%n) {rows_per_token = 1 : i64}
  %w = rt.weight @blk.1.norm : memref<16xf32>
  rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %w : memref<1x16xf32>, memref<16xf32>) live(%n) {rows_per_token = 1 : i64}
  func.return
}
