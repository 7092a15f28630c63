// RUN: ck-opt %s -p rt-reroll-layers | filecheck %s

// Three layers of two calls: one function and a table of what differs. What does not differ is an argument once.
// CHECK-LABEL: func.func private @f_layer(
// CHECK-SAME:    attributes {ck.layer}
// CHECK-NEXT:    rt.launch @norm outs(%x : {{.*}}) ins(%x, %v0 :
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.call @k outs(%x : {{.*}}) ins(%x, %w0, %n :
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    func.return
// CHECK-LABEL: func.func @f(
// CHECK-NEXT:    rt.repeat @f_layer({{.*}}) table [
// CHECK-SAME:    [@blk.0.norm, @blk.0.w], [@blk.1.norm, @blk.1.w], [@blk.2.norm, @blk.2.w]]
// CHECK-NEXT:    rt.launch @last
// CHECK-NEXT:    func.return
func.func @f(%x: memref<1x16xf32>, %n: index) {
  %v0 = rt.weight @blk.0.norm : memref<16xf32>
  rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %v0 : memref<1x16xf32>, memref<16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.barrier
  %w0 = rt.weight @blk.0.w : !ck.q<16x16xf32, r16>
  rt.call @k outs(%x : memref<1x16xf32>) ins(%x, %w0, %n : memref<1x16xf32>, !ck.q<16x16xf32, r16>, index) {immediates = {}, split = "cols"}
  rt.barrier
  %v1 = rt.weight @blk.1.norm : memref<16xf32>
  rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %v1 : memref<1x16xf32>, memref<16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.barrier
  %w1 = rt.weight @blk.1.w : !ck.q<16x16xf32, r16>
  rt.call @k outs(%x : memref<1x16xf32>) ins(%x, %w1, %n : memref<1x16xf32>, !ck.q<16x16xf32, r16>, index) {immediates = {}, split = "cols"}
  rt.barrier
  %v2 = rt.weight @blk.2.norm : memref<16xf32>
  rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %v2 : memref<1x16xf32>, memref<16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.barrier
  %w2 = rt.weight @blk.2.w : !ck.q<16x16xf32, r16>
  rt.call @k outs(%x : memref<1x16xf32>) ins(%x, %w2, %n : memref<1x16xf32>, !ck.q<16x16xf32, r16>, index) {immediates = {}, split = "cols"}
  rt.barrier
  rt.launch @last outs(%x : memref<1x16xf32>) ins(%x : memref<1x16xf32>) live(%n) {rows_per_token = 1 : i64}
  func.return
}

// Nothing to do: nothing repeats.
// CHECK-LABEL: func.func @once(
// CHECK-NEXT:    rt.launch @a
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.launch @b
// CHECK-NEXT:    func.return
func.func @once(%x: memref<1x16xf32>, %n: index) {
  rt.launch @a outs(%x : memref<1x16xf32>) ins(%x : memref<1x16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.barrier
  rt.launch @b outs(%x : memref<1x16xf32>) ins(%x : memref<1x16xf32>) live(%n) {rows_per_token = 1 : i64}
  func.return
}

// A step goes through the layers twice: a run of its own for the way back, in the order of the calls.
// CHECK-LABEL: func.func private @step_layer(
// CHECK-NEXT:    rt.launch @norm
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.call @k
// CHECK-LABEL: func.func private @step_layer_2(
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.call @dx outs(%d : {{.*}}) ins(%d, %w3, %n :
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    rt.call @dw outs(%g3 :
// CHECK-NEXT:    func.return
// CHECK-LABEL: func.func @step(
// CHECK-NEXT:    rt.repeat @step_layer(%x, %n : {{.*}}) table {{\[}}[@blk.0.norm, @blk.0.w], [@blk.1.norm, @blk.1.w], [@blk.2.norm, @blk.2.w], [@blk.3.norm, @blk.3.w]]
// CHECK-NEXT:    rt.launch @loss
// CHECK-NEXT:    rt.repeat @step_layer_2({{.*}}) table {{\[}}[@blk.3.w, @grad.blk.3.w], [@blk.2.w, @grad.blk.2.w], [@blk.1.w, @grad.blk.1.w], [@blk.0.w, @grad.blk.0.w]]
// CHECK-NEXT:    rt.barrier
// CHECK-NEXT:    func.return
func.func @step(%x: memref<1x16xf32>, %n: index, %d: memref<1x16xf32>) {
  %v0 = rt.weight @blk.0.norm : memref<16xf32>
  rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %v0 : memref<1x16xf32>, memref<16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.barrier
  %w0 = rt.weight @blk.0.w : !ck.q<16x16xf32, rows>
  rt.call @k outs(%x : memref<1x16xf32>) ins(%x, %w0, %n : memref<1x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.barrier
  %v1 = rt.weight @blk.1.norm : memref<16xf32>
  rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %v1 : memref<1x16xf32>, memref<16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.barrier
  %w1 = rt.weight @blk.1.w : !ck.q<16x16xf32, rows>
  rt.call @k outs(%x : memref<1x16xf32>) ins(%x, %w1, %n : memref<1x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.barrier
  %v2 = rt.weight @blk.2.norm : memref<16xf32>
  rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %v2 : memref<1x16xf32>, memref<16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.barrier
  %w2 = rt.weight @blk.2.w : !ck.q<16x16xf32, rows>
  rt.call @k outs(%x : memref<1x16xf32>) ins(%x, %w2, %n : memref<1x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.barrier
  %v3 = rt.weight @blk.3.norm : memref<16xf32>
  rt.launch @norm outs(%x : memref<1x16xf32>) ins(%x, %v3 : memref<1x16xf32>, memref<16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.barrier
  %w3 = rt.weight @blk.3.w : !ck.q<16x16xf32, rows>
  rt.call @k outs(%x : memref<1x16xf32>) ins(%x, %w3, %n : memref<1x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.barrier
  rt.launch @loss outs(%d : memref<1x16xf32>) ins(%x : memref<1x16xf32>) live(%n) {rows_per_token = 1 : i64}
  rt.barrier
  rt.call @dx outs(%d : memref<1x16xf32>) ins(%d, %w3, %n : memref<1x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.barrier
  %g3 = rt.weight @grad.blk.3.w : !ck.q<16x16xf32, rows>
  rt.call @dw outs(%g3 : !ck.q<16x16xf32, rows>) ins(%d, %x, %n : memref<1x16xf32>, memref<1x16xf32>, index) {immediates = {}, split = "cols"}
  rt.barrier
  rt.call @dx outs(%d : memref<1x16xf32>) ins(%d, %w2, %n : memref<1x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.barrier
  %g2 = rt.weight @grad.blk.2.w : !ck.q<16x16xf32, rows>
  rt.call @dw outs(%g2 : !ck.q<16x16xf32, rows>) ins(%d, %x, %n : memref<1x16xf32>, memref<1x16xf32>, index) {immediates = {}, split = "cols"}
  rt.barrier
  rt.call @dx outs(%d : memref<1x16xf32>) ins(%d, %w1, %n : memref<1x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.barrier
  %g1 = rt.weight @grad.blk.1.w : !ck.q<16x16xf32, rows>
  rt.call @dw outs(%g1 : !ck.q<16x16xf32, rows>) ins(%d, %x, %n : memref<1x16xf32>, memref<1x16xf32>, index) {immediates = {}, split = "cols"}
  rt.barrier
  rt.call @dx outs(%d : memref<1x16xf32>) ins(%d, %w0, %n : memref<1x16xf32>, !ck.q<16x16xf32, rows>, index) {immediates = {}, split = "cols"}
  rt.barrier
  %g0 = rt.weight @grad.blk.0.w : !ck.q<16x16xf32, rows>
  rt.call @dw outs(%g0 : !ck.q<16x16xf32, rows>) ins(%d, %x, %n : memref<1x16xf32>, memref<1x16xf32>, index) {immediates = {}, split = "cols"}
  rt.barrier
  func.return
}
