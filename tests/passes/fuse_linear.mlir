// RUN: ck-opt %s -p ck-fuse-linear | filecheck %s

// Gate, activation and up become one op.
// CHECK-LABEL: @gate
// CHECK-NEXT:    %gate = ck.weight @gate
// CHECK-NEXT:    %up = ck.weight @up
// CHECK-NEXT:    %y = ck.glu %x, %gate, %up {act = "silu"}
// CHECK-NEXT:    func.return %y
func.func @gate(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %gate = ck.weight @gate : !ck.q<16x32xq8_0>
  %g = ck.linear %x, %gate : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  %s = ck.silu %g : tensor<2x16xf32> -> tensor<2x16xf32>
  %up = ck.weight @up : !ck.q<16x32xq8_0>
  %u = ck.linear %x, %up : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  %y = ck.mul %s, %u : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}

// Products of the same rows stand together, whatever their types.
// CHECK-LABEL: @products
// CHECK-NEXT:    %q = ck.weight @q
// CHECK-NEXT:    %k = ck.weight @k
// CHECK-NEXT:    %a, %b = ck.linear_multi %x, %q, %k
// CHECK-NEXT:    func.return %a, %b
func.func @products(%x: tensor<2x32xf32>) -> (tensor<2x16xf32>, tensor<2x8xf32>) {
  %q = ck.weight @q : !ck.q<16x32xq8_0>
  %a = ck.linear %x, %q : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  %k = ck.weight @k : !ck.q<8x32xq4_1>
  %b = ck.linear %x, %k : (tensor<2x32xf32>, !ck.q<8x32xq4_1>) -> tensor<2x8xf32>
  func.return %a, %b : tensor<2x16xf32>, tensor<2x8xf32>
}

// The residual may stand on either side.
// CHECK-LABEL: @residual
// CHECK:         %y = ck.linear %x, %w add %r
// CHECK-NOT:     ck.add
// CHECK:         func.return %y
func.func @residual(%x: tensor<2x32xf32>, %r: tensor<2x16xf32>) -> tensor<2x16xf32> {
  %w = ck.weight @down : !ck.q<16x32xq8_0>
  %d = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  %y = ck.add %d, %r : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}

// Nothing to do: the product has another user and would be computed twice.
// CHECK-LABEL: @used_twice
// CHECK-NEXT:    %w = ck.weight @down
// CHECK-NEXT:    %d = ck.linear %x, %w :
// CHECK-NEXT:    %y = ck.add %r, %d
// CHECK-NEXT:    func.return %y, %d
func.func @used_twice(%x: tensor<2x32xf32>, %r: tensor<2x16xf32>) -> (tensor<2x16xf32>, tensor<2x16xf32>) {
  %w = ck.weight @down : !ck.q<16x32xq8_0>
  %d = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  %y = ck.add %r, %d : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
  func.return %y, %d : tensor<2x16xf32>, tensor<2x16xf32>
}

// Nothing to do: adding a product to itself leaves no residual.
// CHECK-LABEL: @doubled
// CHECK:         ck.linear %x, %w :
// CHECK-NEXT:    ck.add %d, %d
func.func @doubled(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %w = ck.weight @down : !ck.q<16x32xq8_0>
  %d = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  %y = ck.add %d, %d : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}

// No gate where the two weights have different types: the products are joined, the rest stays.
// CHECK-LABEL: @two_types
// CHECK-NOT:     ck.glu
// CHECK:         %g, %u = ck.linear_multi %x, %gate, %up
// CHECK-NEXT:    %s = ck.silu %g
// CHECK-NEXT:    %y = ck.mul %s, %u
func.func @two_types(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %gate = ck.weight @gate : !ck.q<16x32xq8_0>
  %g = ck.linear %x, %gate : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  %s = ck.silu %g : tensor<2x16xf32> -> tensor<2x16xf32>
  %up = ck.weight @up : !ck.q<16x32xq4_1>
  %u = ck.linear %x, %up : (tensor<2x32xf32>, !ck.q<16x32xq4_1>) -> tensor<2x16xf32>
  %y = ck.mul %s, %u : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}

// The loss whose gradient is taken comes from the gradient's op.
// CHECK-LABEL: @loss
// CHECK-NOT:     ck.cross_entropy %
// CHECK:         %nll, %dh, %dw, %[[L:.*]] = ck.cross_entropy_bwd %h, %w, %t, %d
// CHECK-NEXT:    func.return %nll, %dh
func.func @loss(%h: tensor<2x32xf32>, %t: tensor<2xi32>, %d: tensor<2x1xf32>) -> (tensor<2x1xf32>, tensor<2x32xf32>) {
  %w = ck.weight @head : !ck.q<17x32xf32, rows>
  %l, %m = ck.cross_entropy %h, %w, %t : (tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2xi32>) -> (tensor<2x1xf32>, tensor<2x17xf32>)
  %nll, %dh, %dw, %logits = ck.cross_entropy_bwd %h, %w, %t, %d
    : (tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2xi32>, tensor<2x1xf32>)
    -> (tensor<2x1xf32>, tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2x17xf32>)
  func.return %l, %dh : tensor<2x1xf32>, tensor<2x32xf32>
}

// Nothing to do: the loss is read before its gradient is there, and another loss has other targets.
// CHECK-LABEL: @needed_before
// CHECK:         %a, %{{.*}} = ck.cross_entropy %h, %w, %t
// CHECK:         %b, %{{.*}} = ck.cross_entropy %h, %w, %u
// CHECK:         ck.scale %a
// CHECK:         ck.cross_entropy_bwd %h, %w, %t, %d
func.func @needed_before(%h: tensor<2x32xf32>, %t: tensor<2xi32>, %u: tensor<2xi32>) -> (tensor<2x1xf32>, tensor<2x32xf32>) {
  %w = ck.weight @head : !ck.q<17x32xf32, rows>
  %a, %m = ck.cross_entropy %h, %w, %t : (tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2xi32>) -> (tensor<2x1xf32>, tensor<2x17xf32>)
  %b, %o = ck.cross_entropy %h, %w, %u : (tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2xi32>) -> (tensor<2x1xf32>, tensor<2x17xf32>)
  %d = ck.scale %a {factor = 2.000000e+00 : f32} : tensor<2x1xf32> -> tensor<2x1xf32>
  %nll, %dh, %dw, %logits = ck.cross_entropy_bwd %h, %w, %t, %d
    : (tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2xi32>, tensor<2x1xf32>)
    -> (tensor<2x1xf32>, tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2x17xf32>)
  func.return %b, %dh : tensor<2x1xf32>, tensor<2x32xf32>
}

// The rows' gradient of sister products is a chain: each adds to the one before.
// CHECK-LABEL: @chain
// CHECK:         %a = ck.matmul %p, %q {form = "nn"}
// CHECK-NEXT:    %[[S:.*]] = ck.matmul %p, %k add %a {form = "nn"}
// CHECK-NEXT:    %{{.*}} = ck.matmul %p, %v add %[[S]] {form = "nn"}
// CHECK-NOT:     ck.add
func.func @chain(%p: tensor<2x16xf32>) -> tensor<2x32xf32> {
  %q = ck.weight @q : !ck.q<16x32xf32, rows>
  %k = ck.weight @k : !ck.q<16x32xf32, rows>
  %v = ck.weight @v : !ck.q<16x32xf32, rows>
  %a = ck.matmul %p, %q {form = "nn"} : (tensor<2x16xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x32xf32>
  %b = ck.matmul %p, %k {form = "nn"} : (tensor<2x16xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x32xf32>
  %s = ck.add %a, %b : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  %c = ck.matmul %p, %v {form = "nn"} : (tensor<2x16xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x32xf32>
  %d = ck.add %s, %c : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %d : tensor<2x32xf32>
}

// No gate of trained weights: its gradient wants both products. They are joined, with those of the backward pass
// apart, and the weights stay before their first use.
// CHECK-LABEL: @recomputed
// CHECK:         %gate = ck.weight @gate
// CHECK-NEXT:    %up = ck.weight @up
// CHECK-NEXT:    %g, %u = ck.linear_multi %x, %gate, %up :
// CHECK:         %y = ck.mul
// CHECK-NEXT:    %[[G:.*]], %[[U:.*]] = ck.linear_multi %x, %gate, %up {ck.recomputed}
// CHECK-NEXT:    %z = ck.mul %[[G]], %[[U]]
func.func @recomputed(%x: tensor<2x32xf32>) -> (tensor<2x16xf32>, tensor<2x16xf32>) {
  %gate = ck.weight @gate : !ck.q<16x32xf32, rows>
  %g = ck.linear %x, %gate : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
  %s = ck.silu %g : tensor<2x16xf32> -> tensor<2x16xf32>
  %up = ck.weight @up : !ck.q<16x32xf32, rows>
  %u = ck.linear %x, %up : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
  %y = ck.mul %s, %u : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
  %g2 = ck.linear %x, %gate {ck.recomputed} : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
  %u2 = ck.linear %x, %up {ck.recomputed} : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
  %z = ck.mul %g2, %u2 : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
  func.return %y, %z : tensor<2x16xf32>, tensor<2x16xf32>
}

// What is said of a product is said of what it becomes: its precision.
// CHECK-LABEL: @precision
// CHECK:         %y = ck.linear %x, %w add %r {compute = "bf16"}
// CHECK:         %s = ck.matmul %y, %w add %x {compute = "bf16", form = "nn"}
func.func @precision(%x: tensor<2x32xf32>, %r: tensor<2x16xf32>) -> tensor<2x32xf32> {
  %w = ck.weight @w : !ck.q<16x32xf32, rows>
  %p = ck.linear %x, %w {compute = "bf16"} : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
  %y = ck.add %r, %p : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
  %m = ck.matmul %y, %w {compute = "bf16", form = "nn"} : (tensor<2x16xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x32xf32>
  %s = ck.add %m, %x : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %s : tensor<2x32xf32>
}
