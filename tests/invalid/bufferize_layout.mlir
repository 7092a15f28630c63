// RUN: ck-opt %s -p ck-bufferize --verify-diagnostics | filecheck %s

// CHECK: ck.linear: !ck.q<16x32xq8_0> has no layout: run ck-assign-layouts before ck-bufferize
func.func @no_layout(%x: tensor<2x32xf32>, %n: index) -> tensor<2x16xf32> {
  %a = ck.weight @a : !ck.q<16x32xq8_0>
  %p = ck.linear %x, %a : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  func.return %p : tensor<2x16xf32>
}
