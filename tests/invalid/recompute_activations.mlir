// RUN: ck-opt %s -p 'ck-recompute-activations{budget=1.5}' --verify-diagnostics | filecheck %s
// RUN: ck-opt %s -p 'ck-recompute-activations{budget=-0.5}' --verify-diagnostics | filecheck %s --check-prefix=LESS

// CHECK: ck-recompute-activations: budget is from 0 to 1, got 1.5
// LESS:  ck-recompute-activations: budget is from 0 to 1, got -0.5
func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
