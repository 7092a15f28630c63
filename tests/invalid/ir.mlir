// RUN: ck-opt %s --split-input-file --parsing-diagnostics --verify-diagnostics | filecheck %s
// RUN: not ck-opt %s 2>&1 | filecheck %s --check-prefix=ONE

// CHECK: invalid/ir.mlir:9:1
// CHECK: in block definition
// ONE:   ck-opt: {{.*}}invalid/ir.mlir:
func.func @open() {
  func.return
// -----
// CHECK: invalid/ir.mlir:
// CHECK: Operation ck.nonsense is not registered
func.func @unknown(%x: tensor<2x32xf32>) {
  %y = "ck.nonsense"(%x) : (tensor<2x32xf32>) -> tensor<2x32xf32>
  func.return
}
// -----
// CHECK: ck.rms_norm: rows of x tensor<2x32xf32> have 32 columns, w is tensor<16xf32>
func.func @shapes(%x: tensor<2x32xf32>, %w: tensor<16xf32>) {
  %y = ck.rms_norm %x, %w {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<16xf32> -> tensor<2x32xf32>
  func.return
}
