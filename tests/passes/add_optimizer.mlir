// RUN: ck-opt %s -p ck-add-optimizer | filecheck %s
// RUN: ck-opt %s -p ck-add-optimizer,ck-add-optimizer | filecheck %s
// RUN: ck-opt %s -p 'ck-add-optimizer{kind="sgd" decay="all"}' | filecheck %s --check-prefix=SGD
// RUN: ck-opt %s -p ck-add-optimizer,dce,cse | filecheck %s --check-prefix=DCE

module attributes {ck.training = {optimizer = "adamw", decay = "matrices", toward_one = [@gain]}} {

// The sum of a weight with two uses begins at its state; a gain's is added in its kernel too. The results stay.
// CHECK-LABEL: func.func @step(
// CHECK-SAME:    -> tensor<2x32xf32> {
// CHECK-NEXT:    %[[GW:.*]] = ck.weight @grad.w : !ck.q<32x32xf32, rows>
// CHECK-NEXT:    %[[GG:.*]] = ck.weight @grad.gain : tensor<32xf32>
// CHECK-NEXT:    %a = ck.matmul %dy, %x add %[[GW]] {form = "tn"}
// CHECK-NEXT:    %b = ck.matmul %x, %dy add %a {form = "tn"}
// CHECK-NEXT:    %g = ck.reduce_rows %dy into %[[GG]] {rows_per_token = 1 : i64}
// CHECK-NEXT:    %y = ck.silu %x
// CHECK-NEXT:    func.return %y : tensor<2x32xf32>
// What writes to a state stays although nothing reads its result.
// DCE-LABEL:   func.func @step(
// DCE:           ck.matmul %dy, %x add
// DCE-NEXT:      ck.matmul %x, %dy add
// DCE-NEXT:      ck.reduce_rows %dy into
// DCE-NEXT:      ck.silu
func.func @step(%x: tensor<2x32xf32>, %dy: tensor<2x32xf32>, %n: index) -> (tensor<2x32xf32>, !ck.q<32x32xf32, rows>, tensor<32xf32>) attributes {ck.gradients = [@w, @gain]} {
  %a = ck.matmul %dy, %x {form = "tn"} : (tensor<2x32xf32>, tensor<2x32xf32>) -> !ck.q<32x32xf32, rows>
  %b = ck.matmul %x, %dy add %a {form = "tn"} : (tensor<2x32xf32>, tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> !ck.q<32x32xf32, rows>
  %g = ck.reduce_rows %dy {rows_per_token = 1 : i64} : (tensor<2x32xf32>) -> tensor<32xf32>
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y, %b, %g : tensor<2x32xf32>, !ck.q<32x32xf32, rows>, tensor<32xf32>
}

// Nothing to do: it has no gradients.
// CHECK-LABEL: func.func @eval(
// CHECK-NEXT:    %y = ck.silu %x
// CHECK-NEXT:    func.return %y
func.func @eval(%x: tensor<2x32xf32>) -> tensor<2x32xf32> {
  %y = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}

// Tensors of one type stand together. Decay falls on matrices; a gain that is stored as 1 + w would go to 1.
// CHECK-LABEL: func.func @grad_norm(%hyper: tensor<8xf32>, %n: index) -> tensor<2xf32> attributes {ck.entry}
// CHECK:         %norm, %partials = ck.global_norm %hyper, %grad_w, %grad_gain
// CHECK-NEXT:    func.return %norm
// CHECK-LABEL: func.func @update(%hyper: tensor<8xf32>, %norm: tensor<2xf32>, %n: index) attributes {ck.entry}
// CHECK-NEXT:    %w = ck.weight @w
// CHECK-NEXT:    %grad_w = ck.weight @grad.w
// CHECK-NEXT:    %adam_m_w = ck.weight @adam_m.w
// CHECK-NEXT:    %adam_v_w = ck.weight @adam_v.w
// CHECK-NEXT:    ck.adamw %w, %grad_w, %adam_m_w, %adam_v_w, %norm, %hyper {decay = 1 : i64, toward = 0.000000e+00 : f32}
// CHECK:         ck.adamw %gain, {{.*}} {decay = 0 : i64, toward = 1.000000e+00 : f32}
// CHECK-NEXT:    func.return
// CHECK-NOT:     @update
// SGD-LABEL:   func.func @update(
// SGD:           %momentum_w = ck.weight @momentum.w
// SGD-NEXT:      ck.sgd %w, %grad_w, %momentum_w, %norm, %hyper {decay = 1 : i64, toward = 0.000000e+00 : f32}
// SGD:           ck.sgd %gain, {{.*}} {decay = 1 : i64, toward = 1.000000e+00 : f32}
// DCE-LABEL:   func.func @update(
// DCE-COUNT-2:   ck.adamw
}
