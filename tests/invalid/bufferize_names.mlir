// RUN: ck-opt %s -p ck-fuse-rows,ck-bufferize --verify-diagnostics | filecheck %s

// A number after an underscore is the printer's: both results are called y.
// CHECK: @twice: two arguments or results are called y: an entry's are found by name
func.func @twice(%x: tensor<2x3xf32>, %n: index) -> (tensor<2x3xf32>, tensor<2x3xf32>) attributes {ck.entry} {
  %y = ck.silu %x : tensor<2x3xf32> -> tensor<2x3xf32>
  %y_1 = ck.silu %y : tensor<2x3xf32> -> tensor<2x3xf32>
  func.return %y, %y_1 : tensor<2x3xf32>, tensor<2x3xf32>
}
