// RUN: ck-opt %s -p ck-assign-layouts,ck-select-kernels | filecheck %s
// RUN: ck-opt %s -p 'ck-assign-layouts{activations="q16"}' | filecheck %s --check-prefix FINE

// The module says how rows are quantised, unless the pass does. The kernels' names end in what they take.
// CHECK-LABEL: @f
// CHECK:         %[[Q:.*]] = ck.quantize_rows %x {kernel = [@ck_quantize_rows_q8], bits = 8 : i64}
// CHECK:         ck.linear %[[Q]], %w {kernel = [@ck_linear_q4_k_q8]}
// FINE-LABEL: @f
// FINE:         ck.quantize_rows %x : tensor<2x256xf32> -> !ck.q16<2x256>
module attributes {ck.activations = "q8"} {
  func.func @f(%x: tensor<2x256xf32>) -> tensor<2x16xf32> {
    %w = ck.weight @w : !ck.q<16x256xq4_k>
    %y = ck.linear %x, %w : (tensor<2x256xf32>, !ck.q<16x256xq4_k>) -> tensor<2x16xf32>
    func.return %y : tensor<2x16xf32>
  }
}
