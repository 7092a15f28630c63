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
