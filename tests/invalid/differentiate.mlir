// RUN: ck-opt %s -p ck-differentiate --split-input-file --verify-diagnostics | filecheck %s
// RUN: not ck-opt %s -p 'ck-differentiate{wrt="left"}' --split-input-file 2>&1 | filecheck %s --check-prefix=WRT

// WRT: ck-differentiate: no result depends on @left, which is trained

// CHECK: ck-differentiate: ck.glu has no gradient, and %y is between a trained weight and the loss
func.func @gate(%x: tensor<2x32xf32>) -> tensor<2x16xf32> attributes {ck.trainable = [@up]} {
  %gate = ck.weight @gate : !ck.q<16x32xf32>
  %up = ck.weight @up : !ck.q<16x32xf32>
  %y = ck.glu %x, %gate, %up {act = "silu"} : (tensor<2x32xf32>, !ck.q<16x32xf32>, !ck.q<16x32xf32>) -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}
// -----
// CHECK: ck-differentiate: ck.attention has no gradient, and %y is between a trained weight and the loss
func.func @cached(%x: tensor<2x32xf32>, %n: index, %pos: index) -> tensor<2x32xf32> attributes {ck.trainable = [@q]} {
  %w = ck.weight @q : !ck.q<32x32xf32, rows>
  %q = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %kv = ck.cache @kv : !ck.kv<1x64x16xf32>
  %y = ck.attention %q, %kv, %n, %pos {heads = 2 : i64, scale = 1.000000e+00 : f32, window = 0 : i64} : tensor<2x32xf32>, !ck.kv<1x64x16xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
// -----
// CHECK: ck-differentiate: ck.rope gives no gradient for %table, which is trained
func.func @angles(%x: tensor<2x32xf32>, %pos: index) -> tensor<2x32xf32> attributes {ck.trainable = [@gain]} {
  %freq = ck.weight @freq : tensor<16xf32>
  %angles = ck.rope_table %freq, %pos {rows = 2 : i64} : tensor<16xf32>, index -> tensor<2x32xf32>
  %gain = ck.weight @gain : tensor<32xf32>
  %table = ck.rms_norm %angles, %gain {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  %y = ck.rope %x, %table {heads = 1 : i64, mode = "neox"} : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
// -----
// CHECK: ck-differentiate: no result depends on @unused, which is trained
func.func @unused(%x: tensor<2x32xf32>) -> tensor<2x32xf32> attributes {ck.trainable = [@gain, @unused]} {
  %gain = ck.weight @gain : tensor<32xf32>
  %unused = ck.weight @unused : tensor<32xf32>
  %y = ck.rms_norm %x, %gain {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
// -----
// CHECK: ck-differentiate: no result depends on @absent, which is trained
func.func @absent(%x: tensor<2x32xf32>) -> tensor<2x32xf32> attributes {ck.trainable = [@absent]} {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
// -----
// A packed weight can be multiplied with, but not the other way round.
// CHECK: ck.linear: a gradient needs a weight of layout rows, %w is !ck.q<32x32xf16>
func.func @packed(%x: tensor<2x32xf32>) -> tensor<2x32xf32> attributes {ck.trainable = [@gain]} {
  %gain = ck.weight @gain : tensor<32xf32>
  %n = ck.rms_norm %x, %gain {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  %w = ck.weight @w : !ck.q<32x32xf16>
  %y = ck.linear %n, %w : (tensor<2x32xf32>, !ck.q<32x32xf16>) -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
