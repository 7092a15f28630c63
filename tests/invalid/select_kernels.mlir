// RUN: ck-opt %s -p ck-select-kernels --split-input-file --verify-diagnostics | filecheck %s

// CHECK: ck.silu stands outside ck.fused: run ck-fuse-rows before ck-select-kernels
func.func @row_wise(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
// -----
// CHECK: ck.linear: !ck.q<16x32xq8_0> has no layout: run ck-assign-layouts before ck-select-kernels
func.func @no_layout(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %a = ck.weight @a : !ck.q<16x32xq8_0>
  %p = ck.linear %x, %a : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  func.return %p : tensor<2x16xf32>
}
