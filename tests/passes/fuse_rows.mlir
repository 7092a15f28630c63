// RUN: ck-opt %s -p ck-fuse-rows | filecheck %s

// A value that is wanted outside leaves the group as a result.
// CHECK-LABEL: @shared
// CHECK-NEXT:    %a, %n = ck.fused(%x, %w) {
// CHECK-NEXT:    ^bb0(%[[X:.*]]: tensor<2x32xf32>, %[[W:.*]]: tensor<32xf32>):
// CHECK-NEXT:      %[[A:.*]] = ck.add %[[X]], %[[X]]
// CHECK-NEXT:      %[[N:.*]] = ck.rms_norm %[[A]], %[[W]]
// CHECK-NEXT:      ck.yield %[[A]], %[[N]]
// CHECK:         func.return %a, %n
func.func @shared(%x: tensor<2x32xf32>, %w: tensor<32xf32>) -> (tensor<2x32xf32>, tensor<2x32xf32>) {
  %a = ck.add %x, %x : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  %n = ck.rms_norm %a, %w {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  func.return %a, %n : tensor<2x32xf32>, tensor<2x32xf32>
}

// A path through a product leaves the group and comes back: two groups.
// CHECK-LABEL: @cycle
// CHECK:         %n = ck.fused(%x, %w)
// CHECK:         %d = ck.linear %n, %m
// CHECK:         %s = ck.fused(%n, %d)
// CHECK:         func.return %s
func.func @cycle(%x: tensor<2x32xf32>, %w: tensor<32xf32>) -> tensor<2x32xf32> {
  %n = ck.rms_norm %x, %w {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  %m = ck.weight @m : !ck.q<32x32xf32>
  %d = ck.linear %n, %m : (tensor<2x32xf32>, !ck.q<32x32xf32>) -> tensor<2x32xf32>
  %s = ck.add %n, %d : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %s : tensor<2x32xf32>
}

// Rows that differ in number do not go together.
// CHECK-LABEL: @rows
// CHECK:         ck.fused(%x)
// CHECK:         ck.reshape
// CHECK:         ck.fused(
func.func @rows(%x: tensor<2x32xf32>, %w: tensor<16xf32>) -> tensor<4x16xf32> {
  %a = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  %h = ck.reshape %a : tensor<2x32xf32> -> tensor<4x16xf32>
  %n = ck.rms_norm %h, %w {eps = 1.000000e-05 : f32} : tensor<4x16xf32>, tensor<16xf32> -> tensor<4x16xf32>
  func.return %n : tensor<4x16xf32>
}

// Nothing to do.
// CHECK-LABEL: @nothing
// CHECK-NEXT:    %w = ck.weight @w
// CHECK-NEXT:    %y = ck.linear %x, %w
// CHECK-NEXT:    func.return %y
func.func @nothing(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %w = ck.weight @w : !ck.q<16x32xf32>
  %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf32>) -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}

// What is recomputed does not join what made its operand, but what reads it.
// CHECK-LABEL: @recomputed
// CHECK:         %a, %s = ck.fused(%x)
// CHECK:         %p = ck.linear %s
// CHECK:         %d = ck.fused(%a, %p) {
// CHECK:           ck.silu {{.*}} {ck.recomputed}
// CHECK-NEXT:      ck.mul
// CHECK:         func.return %d
func.func @recomputed(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %w = ck.weight @w : !ck.q<32x32xf32, rows>
  %a = ck.add %x, %x : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  %s = ck.silu %a : tensor<2x32xf32> -> tensor<2x32xf32>
  %p = ck.linear %s, %w : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %t = ck.silu %a {ck.recomputed} : tensor<2x32xf32> -> tensor<2x32xf32>
  %d = ck.mul %t, %p : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %d : tensor<2x32xf32>
}

// What nothing reads is not made.
// CHECK-LABEL: @dead
// CHECK:         %y = ck.fused
// CHECK:           ck.silu
// CHECK-NOT:     ck.fused
func.func @dead(%x: tensor<2x32xf32>, %z: tensor<4x32xf32>) -> tensor<2x32xf32> {
  %a = ck.silu %z : tensor<4x32xf32> -> tensor<4x32xf32>
  %b = ck.silu %a : tensor<4x32xf32> -> tensor<4x32xf32>
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}

// A product's bias goes with what reads it: nothing is written between.
// CHECK-LABEL: @bias
// CHECK:         %p = ck.linear %x, %m
// CHECK:         %y = ck.fused(%p, %b) {
// CHECK:           ck.bias_add
// CHECK-NEXT:      ck.silu
// CHECK:         func.return %y
func.func @bias(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %m = ck.weight @m : !ck.q<16x32xf32>
  %p = ck.linear %x, %m : (tensor<2x32xf32>, !ck.q<16x32xf32>) -> tensor<2x16xf32>
  %b = ck.weight @b : tensor<16xf32>
  %c = ck.bias_add %p, %b : tensor<2x16xf32>, tensor<16xf32> -> tensor<2x16xf32>
  %y = ck.silu %c : tensor<2x16xf32> -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}
