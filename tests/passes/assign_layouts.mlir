// RUN: ck-opt %s -p ck-assign-layouts | filecheck %s
// RUN: ck-opt %s -p ck-assign-layouts,ck-assign-layouts | filecheck %s
// RUN: ck-opt %s -p 'ck-assign-layouts{activations="q8"}' | filecheck %s --check-prefix BYTES

// Rows of 8 bits where the pass, or the module's ck.activations, says so.
// BYTES-LABEL: @shared
// BYTES:         %[[Q:.*]] = ck.quantize_rows %x {bits = 8 : i64} : tensor<2x32xf32> -> !ck.q8<2x32>
// BYTES-NEXT:    %p = ck.linear %[[Q]], %a : (!ck.q8<2x32>, !ck.q<16x32xq8_0, r16>) -> tensor<2x16xf32>

// Two products of the same rows share the quantised rows. Doing it twice changes nothing.
// CHECK-LABEL: @shared
// CHECK-NEXT:    %a = ck.weight @a : !ck.q<16x32xq8_0, r16>
// CHECK-NEXT:    %b = ck.weight @b : !ck.q<16x32xq4_1, r16>
// CHECK-NEXT:    %[[Q:.*]] = ck.quantize_rows %x : tensor<2x32xf32> -> !ck.[[T:q[0-9]+<2x32>]]
// CHECK-NOT:     ck.quantize_rows
// CHECK:         %p = ck.linear %[[Q]], %a : (!ck.[[T]], !ck.q<16x32xq8_0, r16>) -> tensor<2x16xf32>
// CHECK-NEXT:    %q = ck.linear %[[Q]], %b : (!ck.[[T]], !ck.q<16x32xq4_1, r16>) -> tensor<2x16xf32>
func.func @shared(%x: tensor<2x32xf32>) -> (tensor<2x16xf32>, tensor<2x16xf32>) {
  %a = ck.weight @a : !ck.q<16x32xq8_0>
  %b = ck.weight @b : !ck.q<16x32xq4_1>
  %p = ck.linear %x, %a : (tensor<2x32xf32>, !ck.q<16x32xq8_0>) -> tensor<2x16xf32>
  %q = ck.linear %x, %b : (tensor<2x32xf32>, !ck.q<16x32xq4_1>) -> tensor<2x16xf32>
  func.return %p, %q : tensor<2x16xf32>, tensor<2x16xf32>
}

// A float weight takes float rows.
// CHECK-LABEL: @floats
// CHECK-NEXT:    %a = ck.weight @a : !ck.q<16x32xbf16, r16>
// CHECK-NEXT:    %p = ck.linear %x, %a : (tensor<2x32xf32>, !ck.q<16x32xbf16, r16>) -> tensor<2x16xf32>
func.func @floats(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %a = ck.weight @a : !ck.q<16x32xbf16>
  %p = ck.linear %x, %a : (tensor<2x32xf32>, !ck.q<16x32xbf16>) -> tensor<2x16xf32>
  func.return %p : tensor<2x16xf32>
}

// Nothing to do.
// CHECK-LABEL: @nothing
// CHECK-NEXT:    %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
// CHECK-NEXT:    func.return %y
func.func @nothing(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}

// A trained weight stays row-major, where its products and the optimizer find it.
// CHECK-LABEL: @trained
// CHECK-NEXT:    %w = ck.weight @w : !ck.q<16x32xf32, rows>
// CHECK-NEXT:    %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
func.func @trained(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %w = ck.weight @w : !ck.q<16x32xf32, rows>
  %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf32, rows>) -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}
