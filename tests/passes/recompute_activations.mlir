// RUN: ck-opt %s -p 'ck-recompute-activations{budget=0.5}' | filecheck %s
// RUN: ck-opt %s -p 'ck-recompute-activations{budget=0.5},cse,dce' | filecheck %s
// RUN: ck-opt %s -p 'ck-recompute-activations{budget=0.5},ck-recompute-activations{budget=0.0}' | filecheck %s
// RUN: ck-opt %s -p 'ck-recompute-activations{budget=0.8}' | filecheck %s --check-prefix=MOST
// RUN: ck-opt %s -p 'ck-recompute-activations{budget=0.0}' | filecheck %s --check-prefix=LEAST
// RUN: ck-opt %s -p ck-recompute-activations | filecheck %s --check-prefix=ALL

// Of the 4 values that the gradient reads half may be kept: the sum and the product. The norm and the activation
// are computed again, each where it is read first but for the first op of all, which reads what is just there;
// the copies are no common subexpressions, and what is chosen is not chosen again. With 80 % one value
// is computed again, the earliest of the cheapest kind; with nothing allowed the product too, and the sum is the
// least there is. The module says nothing, so by itself the pass does nothing.
// CHECK-LABEL: @block
// CHECK:         %h = ck.add %x, %x
// CHECK-NEXT:    %n = ck.rms_norm %h, %gain
// CHECK-NEXT:    %a = ck.linear %n, %w
// CHECK-NEXT:    %s = ck.silu %a
// CHECK-NEXT:    %y = ck.mul %s, %n
// CHECK-NEXT:    %ds = ck.mul %d_y, %n
// CHECK-NEXT:    %[[S:.*]] = ck.silu %a {ck.recomputed}
// CHECK-NEXT:    %dn = ck.mul %d_y, %[[S]]
// CHECK-NEXT:    %da = ck.silu_bwd %a, %ds
// CHECK-NEXT:    %[[N:.*]] = ck.rms_norm %h, %gain {ck.recomputed,
// CHECK-NEXT:    %dw = ck.matmul %da, %[[N]]
// CHECK-NEXT:    %dx, %dg = ck.rms_norm_bwd %h, %gain, %dn
// MOST-COUNT-1:  ck.recomputed
// MOST-NOT:      ck.recomputed
// LEAST-COUNT-3: ck.recomputed
// LEAST:         ck.rms_norm_bwd %h, %gain
// ALL-NOT:       ck.recomputed
func.func @block(%x: tensor<2x32xf32>, %d_y: tensor<2x32xf32>) -> (tensor<2x32xf32>, !ck.q<32x32xf32, rows>, tensor<2x32xf32>, tensor<2x32xf32>) attributes {ck.gradients = [@w, @a, @b]} {
  %gain = ck.weight @gain : tensor<32xf32>
  %w = ck.weight @w : !ck.q<32x32xf32, rows>
  %h = ck.add %x, %x : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  %n = ck.rms_norm %h, %gain {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  %a = ck.linear %n, %w : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %s = ck.silu %a : tensor<2x32xf32> -> tensor<2x32xf32>
  %y = ck.mul %s, %n : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  %ds = ck.mul %d_y, %n : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  %dn = ck.mul %d_y, %s : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  %da = ck.silu_bwd %a, %ds : tensor<2x32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>
  %dw = ck.matmul %da, %n {form = "tn"} : (tensor<2x32xf32>, tensor<2x32xf32>) -> !ck.q<32x32xf32, rows>
  %dx, %dg = ck.rms_norm_bwd %h, %gain, %dn {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32>, tensor<2x32xf32> -> tensor<2x32xf32>, tensor<2x32xf32>
  func.return %y, %dw, %dx, %dg : tensor<2x32xf32>, !ck.q<32x32xf32, rows>, tensor<2x32xf32>, tensor<2x32xf32>
}

// Nothing to do: no gradients.
// CHECK-LABEL: @eval
// CHECK-NEXT:    %y = ck.silu %x
// CHECK-NEXT:    func.return %y
func.func @eval(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
