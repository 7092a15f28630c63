// RUN: ck-opt %s -p 'ck-assign-layouts{activations="q4"}' --verify-diagnostics | filecheck %s
// RUN: ck-opt %s -p ck-assign-layouts --verify-diagnostics | filecheck %s --check-prefix=MODULE

// CHECK:  ck-assign-layouts: activations is one of q16, q8, got q4
// MODULE: ck-assign-layouts: activations is one of q16, q8, got f16
module attributes {ck.activations = "f16"} {
  func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
    %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
    func.return %y : tensor<2x32xf32>
  }
}
