// RUN: ck-opt %s -p ck-differentiate,ck-add-optimizer --verify-diagnostics | filecheck %s

// CHECK: ck-add-optimizer: the module has a @update already
func.func @f(%x: tensor<2x32xf32>, %n: index) -> tensor<2x32xf32> attributes {ck.trainable = [@gain]} {
  %gain = ck.weight @gain : tensor<32xf32>
  %y = ck.rms_norm %x, %gain {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
func.func @update(%x: tensor<2x32xf32>, %n: index) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
