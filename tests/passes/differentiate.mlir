// RUN: ck-opt %s -p ck-differentiate | filecheck %s
// RUN: ck-opt %s -p ck-differentiate,ck-differentiate | filecheck %s

// What has two users gets the sum of both cotangents; the gain's gradient is a sum over rows. Twice changes nothing.
// CHECK-LABEL: @two_users
// CHECK-SAME:    (%x: tensor<2x32xf32>, %d_y: tensor<2x32xf32>) -> (tensor<2x32xf32>, tensor<32xf32>)
// CHECK-SAME:    attributes {ck.gradients = [@gain]}
// CHECK:         %s = ck.silu %n
// CHECK-NEXT:    %y = ck.mul %n, %s
// CHECK-NEXT:    %[[DN:.*]] = ck.mul %d_y, %s
// CHECK-NEXT:    %d_s = ck.mul %d_y, %n
// CHECK-NEXT:    %[[DS:.*]] = ck.silu_bwd %n, %d_s
// CHECK-NEXT:    %d_n = ck.add %[[DN]], %[[DS]]
// CHECK-NEXT:    %d_norm, %dw_rows = ck.rms_norm_bwd %x, %gain, %d_n
// CHECK-NEXT:    %d_gain = ck.reduce_rows %dw_rows {rows_per_token = 1 : i64}
// CHECK-NEXT:    func.return %y, %d_gain
func.func @two_users(%x: tensor<2x32xf32>) -> tensor<2x32xf32> attributes {ck.trainable = [@gain]} {
  %gain = ck.weight @gain : tensor<32xf32>
  %n = ck.rms_norm %x, %gain {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  %s = ck.silu %n : tensor<2x32xf32> -> tensor<2x32xf32>
  %y = ck.mul %n, %s : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}

// A weight with two uses: the second product adds to the first in its kernel, with no buffer between them.
// CHECK-LABEL: @tied
// CHECK:         %d_h = ck.matmul %d_y, %w {form = "nn"}
// CHECK-NEXT:    %d_w = ck.matmul %d_y, %h {form = "tn"} : {{.*}} -> !ck.q<32x32xf32, rows>
// CHECK-NEXT:    %[[SUM:.*]] = ck.matmul %d_h, %x add %d_w {form = "tn"}
// CHECK-NEXT:    func.return %y, %[[SUM]]
func.func @tied(%x: tensor<2x32xf32>) -> tensor<2x32xf32> attributes {ck.trainable = [@w]} {
  %w = ck.weight @w : !ck.q<32x32xf32, rows>
  %h = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %y = ck.linear %h, %w : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}

// Only what leads to a trained weight: @up is not, so nothing flows past the second product.
// CHECK-LABEL: @some
// CHECK:         %y = ck.linear %h, %down
// CHECK-NEXT:    %d_down = ck.matmul %d_y, %h {form = "tn"}
// CHECK-NEXT:    func.return %y, %d_down
func.func @some(%x: tensor<2x32xf32>) -> tensor<2x32xf32> attributes {ck.trainable = [@down]} {
  %up = ck.weight @up : !ck.q<32x32xf32, rows>
  %h = ck.linear %x, %up : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %down = ck.weight @down : !ck.q<32x32xf32, rows>
  %y = ck.linear %h, %down : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}

// Nothing to do: no weight of it is trained.
// CHECK-LABEL: @eval
// CHECK-SAME:    (%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
// CHECK-NEXT:    %y = ck.silu %x
// CHECK-NEXT:    func.return %y
func.func @eval(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}

// A bias hands its rows' cotangent on, and its own gradient is their sum.
// CHECK-LABEL: @bias
// CHECK:         %y = ck.bias_add %p, %b
// CHECK-NEXT:    %d_b = ck.reduce_rows %d_y {rows_per_token = 1 : i64}
// CHECK-NEXT:    %d_w = ck.matmul %d_y, %x {form = "tn"}
// CHECK-NEXT:    func.return %y, %d_w, %d_b
func.func @bias(%x: tensor<2x32xf32>) -> tensor<2x16xf32> attributes {ck.trainable = [@w, @b]} {
  %w = ck.weight @w : !ck.q<16x32xf32, rows>
  %p = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
  %b = ck.weight @b : tensor<16xf32>
  %y = ck.bias_add %p, %b : tensor<2x16xf32>, tensor<16xf32> -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}
