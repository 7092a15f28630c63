// RUN: ck-opt %s -p ck-fuse-rows,ck-assign-layouts,ck-select-kernels,ck-bufferize --split-input-file --verify-diagnostics | filecheck %s

// CHECK: @no_count: an index argument named n is required, the live count
func.func @no_count(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
// -----
// CHECK: @argument: returns an argument or a view, which has no buffer of its own
func.func @argument(%x: tensor<2x32xf32>, %n: index) -> (tensor<2x32xf32>, tensor<2x32xf32>) {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %x, %y : tensor<2x32xf32>, tensor<2x32xf32>
}
