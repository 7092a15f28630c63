// RUN: ck-opt %s -p 'ck-add-optimizer{kind="adam"}' --verify-diagnostics | filecheck %s
// RUN: ck-opt %s -p 'ck-add-optimizer{decay="biases"}' --verify-diagnostics | filecheck %s --check-prefix=DECAY

// CHECK: ck-add-optimizer: kind is one of adamw, sgd and decay one of matrices, all, got adam and matrices
// DECAY: ck-add-optimizer: kind is one of adamw, sgd and decay one of matrices, all, got adamw and biases
func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
