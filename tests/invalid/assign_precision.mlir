// RUN: ck-opt %s -p 'ck-assign-precision{dtype="f16"}' --verify-diagnostics | filecheck %s
// RUN: ck-opt %s -p ck-assign-precision --verify-diagnostics | filecheck %s --check-prefix=MODULE

// CHECK:  ck-assign-precision: dtype is one of f32, bf16, got f16
// MODULE: ck-assign-precision: dtype is one of f32, bf16, got f64
module attributes {ck.training = {dtype = "f64"}} {
  func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
    %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
    func.return %y : tensor<2x32xf32>
  }
}
