// RUN: ck-opt %s -p 'ck-assign-precision{dtype="bf16"}' | filecheck %s
// RUN: ck-opt %s -p 'ck-assign-precision{dtype="f32"}' | filecheck %s --check-prefix=F32
// RUN: ck-opt %s -p 'ck-assign-precision{dtype="bf16"},ck-select-kernels' | filecheck %s --check-prefix=KERNELS

// All products of a step, the loss among them; what stands between them stays as it is.
// F32-NOT:       compute
// CHECK-LABEL: @step
// CHECK:         %h = ck.linear %x, %up {compute = "bf16"}
// CHECK-NEXT:    %nll, %d_h, %d_head, %logits = ck.cross_entropy_bwd %h, %head, %targets, %d {compute = "bf16"}
// CHECK-NEXT:    %d_x = ck.matmul %d_h, %up {compute = "bf16", form = "nn"}
// CHECK-NEXT:    %d_up = ck.matmul %d_h, %x {compute = "bf16", form = "tn"}
// CHECK-NEXT:    func.return %nll, %d_x
// KERNELS-LABEL: @step
// KERNELS:       kernel = [@ck_matmul_nt_bf16]
// KERNELS:       kernel = [@ck_cross_entropy_logits_bf16, @ck_cross_entropy_grad_rows, @ck_cross_entropy_dhidden_bf16, @ck_cross_entropy_dw_bf16]
// KERNELS:       kernel = [@ck_matmul_nn_bf16]
// KERNELS:       kernel = [@ck_matmul_tn_bf16]
func.func @step(%x: tensor<2x32xf32>, %targets: tensor<2xi32>, %d: tensor<2x1xf32>) -> (tensor<2x1xf32>, tensor<2x32xf32>) {
  %up = ck.weight @up : !ck.q<32x32xf32, rows>
  %head = ck.weight @head : !ck.q<17x32xf32, rows>
  %h = ck.linear %x, %up : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %nll, %d_h, %d_head, %logits = ck.cross_entropy_bwd %h, %head, %targets, %d
    : (tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2xi32>, tensor<2x1xf32>)
    -> (tensor<2x1xf32>, tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2x17xf32>)
  %d_x = ck.matmul %d_h, %up {form = "nn"} : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %d_up = ck.matmul %d_h, %x {form = "tn"} : (tensor<2x32xf32>, tensor<2x32xf32>) -> !ck.q<32x32xf32, rows>
  func.return %nll, %d_x : tensor<2x1xf32>, tensor<2x32xf32>
}

// Nothing to do: a packed weight is of its storage's type.
// CHECK-LABEL: @packed
// CHECK:         %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf16, r16>)
func.func @packed(%x: tensor<2x32xf32>) -> tensor<2x16xf32> {
  %w = ck.weight @w : !ck.q<16x32xf16, r16>
  %y = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf16, r16>) -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}
