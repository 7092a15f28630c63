// RUN: ck-opt %s -p 'ck-differentiate{wrt="blk.0.up"}' | filecheck %s

// `wrt` goes before what the function says of itself.
// CHECK-LABEL: @f
// CHECK-SAME:    (%x: tensor<2x32xf32>, %d_y: tensor<2x32xf32>) -> (tensor<2x32xf32>, !ck.q<32x32xf32, rows>)
// CHECK-SAME:    attributes {ck.gradients = [@blk.0.up]}
// CHECK:         %d_h = ck.matmul %d_y, %down {form = "nn"}
// CHECK-NEXT:    %d_up = ck.matmul %d_h, %x {form = "tn"}
// CHECK-NEXT:    func.return %y, %d_up
func.func @f(%x: tensor<2x32xf32>) -> tensor<2x32xf32> attributes {ck.trainable = [@down]} {
  %up = ck.weight @blk.0.up : !ck.q<32x32xf32, rows>
  %h = ck.linear %x, %up : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %down = ck.weight @down : !ck.q<32x32xf32, rows>
  %y = ck.linear %h, %down : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
