// RUN: ck-opt %s -p ck-assign-layouts,ck-select-kernels | filecheck %s

// One symbol for each product, one for the rows; a group is generated.
// CHECK-LABEL: @several
// CHECK:         ck.quantize_rows %x {kernel = [@ck_quantize_rows]}
// CHECK:         ck.linear_multi %{{.*}}, %a, %b {kernel = [@ck_linear_q8_0, @ck_linear_q4_1]}
// CHECK:         ck.fused(%y, %z)
// CHECK:         } {kernel = "generated"}
func.func @several(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %a = ck.weight @a : !ck.q<16x32xq8_0>
  %b = ck.weight @b : !ck.q<16x32xq4_1>
  %y, %z = ck.linear_multi %x, %a, %b
    : (tensor<2x32xf32>, !ck.q<16x32xq8_0>, !ck.q<16x32xq4_1>) -> (tensor<2x16xf32>, tensor<2x16xf32>)
  %v = ck.fused(%y, %z) {
  ^bb0(%c: tensor<2x16xf32>, %d: tensor<2x16xf32>):
    %e = ck.add %c, %d : tensor<2x16xf32>, tensor<2x16xf32> -> tensor<2x16xf32>
    ck.yield %e : tensor<2x16xf32>
  } : (tensor<2x16xf32>, tensor<2x16xf32>) -> tensor<2x16xf32>
  func.return %v : tensor<2x16xf32>
}

// A residual is another kernel.
// CHECK-LABEL: @residual
// CHECK:         ck.linear %x, %w add %r {kernel = [@ck_linear_add_f16]}
func.func @residual(%x: tensor<2x32xf32>, %r: tensor<2x16xf32>) -> tensor<2x16xf32> {
  %w = ck.weight @w : !ck.q<16x32xf16>
  %y = ck.linear %x, %w add %r
    : (tensor<2x32xf32>, !ck.q<16x32xf16>, tensor<2x16xf32>) -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}

// Nothing to do.
// CHECK-LABEL: @nothing
// CHECK-NEXT:    func.return %x
func.func @nothing(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  func.return %x : tensor<2x32xf32>
}
