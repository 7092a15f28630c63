// RUN: ck-opt %s -p ck-fuse-rows,ck-assign-layouts,ck-select-kernels,ck-bufferize --split-input-file --verify-diagnostics | filecheck %s

// CHECK: @no_count: an index argument named n is required, the live count
func.func @no_count(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
// -----
// CHECK: @argument: returns %x, an argument, a view, a state or written over another value, which has no buffer of its own
func.func @argument(%x: tensor<2x32xf32>, %n: index) -> (tensor<2x32xf32>, tensor<2x32xf32>) {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %x, %y : tensor<2x32xf32>, tensor<2x32xf32>
}
// -----
// CHECK: @state: returns %w, an argument, a view, a state or written over another value, which has no buffer of its own
func.func @state(%x: tensor<2x32xf32>, %n: index) -> tensor<32xf32> {
  %w = ck.weight @w : tensor<32xf32>
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %w : tensor<32xf32>
}
// -----
// CHECK: @sum: returns %b, an argument, a view, a state or written over another value, which has no buffer of its own
func.func @sum(%x: tensor<2x32xf32>, %n: index) -> tensor<32xf32> {
  %a = ck.reduce_rows %x {rows_per_token = 1 : i64} : (tensor<2x32xf32>) -> tensor<32xf32>
  %b = ck.reduce_rows %x into %a {rows_per_token = 1 : i64} : (tensor<2x32xf32>, tensor<32xf32>) -> tensor<32xf32>
  func.return %b : tensor<32xf32>
}
// -----
// CHECK: ck.reduce_rows: overwrites %a, which is read later
func.func @read_later(%x: tensor<2x32xf32>, %g: tensor<32xf32>, %n: index) -> tensor<2x32xf32> {
  %a = ck.reduce_rows %x {rows_per_token = 1 : i64} : (tensor<2x32xf32>) -> tensor<32xf32>
  %b = ck.reduce_rows %x into %a {rows_per_token = 1 : i64} : (tensor<2x32xf32>, tensor<32xf32>) -> tensor<32xf32>
  %y = ck.rms_norm %x, %a {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
