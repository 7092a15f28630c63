// RUN: ck-opt %s -p ck-fuse-rows,ck-assign-layouts,ck-select-kernels,ck-bufferize | filecheck %s

// One generated function for the groups that do the same on rows of one width, whatever their number.
// CHECK:         func.func private @silu(%x0: memref<?x32xf32>, %y: memref<?x32xf32>, %begin: index, %end: index)
// CHECK:         scf.for %t = %begin to %end
// CHECK:         math.exp %{{.*}} : vector<16xf32>
// CHECK:         func.func private @rms_norm(
// CHECK-NOT:     @silu(

// CHECK-LABEL: func.func @groups(%x: memref<2x32xf32>, %n: index, %y: memref<2x16xf32>) {
// CHECK-NEXT:    %a = rt.alloc : memref<2x32xf32>
// CHECK-NEXT:    rt.launch @silu outs(%a : {{.*}}) ins(%x : {{.*}}) live(%n) {rows_per_token = 1 : i64}
// CHECK-NEXT:    %w = rt.weight @w : !ck.q<32x32xf32, r16>
// CHECK-NEXT:    %b = rt.alloc : memref<2x32xf32>
// CHECK-NEXT:    rt.call @ck_linear_f32 outs(%b : {{.*}}) ins(%a, %w, %n : {{.*}}) {immediates = {n_out = 32 : i64, n_in = 32 : i64}, split = "cols"}
// CHECK-NEXT:    %c = rt.alloc : memref<2x32xf32>
// CHECK-NEXT:    rt.launch @silu outs(%c : {{.*}}) ins(%b : {{.*}}) live(%n)
// CHECK-NEXT:    %v = rt.weight @v
// CHECK-NEXT:    rt.call @ck_linear_f32 outs(%y : {{.*}}) ins(%c, %v, %n : {{.*}})
// CHECK-NEXT:    func.return
// CHECK-NEXT:  }
func.func @groups(%x: tensor<2x32xf32>, %n: index) -> tensor<2x16xf32> {
  %a = ck.silu %x : tensor<2x32xf32> -> tensor<2x32xf32>
  %w = ck.weight @w : !ck.q<32x32xf32>
  %b = ck.linear %a, %w : (tensor<2x32xf32>, !ck.q<32x32xf32>) -> tensor<2x32xf32>
  %c = ck.silu %b : tensor<2x32xf32> -> tensor<2x32xf32>
  %v = ck.weight @v : !ck.q<16x32xf32>
  %y = ck.linear %c, %v : (tensor<2x32xf32>, !ck.q<16x32xf32>) -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}

// A reshape is a view; heads are rows too: two for each token.
// CHECK-LABEL: func.func @view(
// CHECK-NEXT:    %h = rt.view %x[0 : i64] : memref<2x32xf32> -> memref<4x16xf32>
// CHECK-NEXT:    %s = rt.alloc : memref<4x16xf32>
// CHECK-NEXT:    rt.launch @rms_norm outs(%s : {{.*}}) ins(%h, %w : {{.*}}) live(%n) {rows_per_token = 2 : i64}
// CHECK-NEXT:    %r = rt.view %s[0 : i64] : memref<4x16xf32> -> memref<2x32xf32>
// CHECK-NEXT:    rt.launch @silu outs(%y : {{.*}}) ins(%r : {{.*}})
func.func @view(%x: tensor<2x32xf32>, %w: tensor<16xf32>, %n: index) -> tensor<2x32xf32> {
  %h = ck.reshape %x : tensor<2x32xf32> -> tensor<4x16xf32>
  %s = ck.rms_norm %h, %w {eps = 1.000000e-05 : f32} : tensor<4x16xf32>, tensor<16xf32> -> tensor<4x16xf32>
  %r = ck.reshape %s : tensor<4x16xf32> -> tensor<2x32xf32>
  %y = ck.silu %r : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}

// The residual is overwritten: nothing reads it later.
// CHECK-LABEL: func.func @in_place(
// CHECK:         %a = rt.alloc : memref<2x16xf32>
// CHECK-NEXT:    rt.call @ck_linear_f32 outs(%a :
// CHECK-NEXT:    rt.call @ck_linear_add_f32 outs(%a : {{.*}}) ins(%x, %w, %a, %n :
// CHECK-NEXT:    rt.launch @silu_2 outs(%y : {{.*}}) ins(%a :
func.func @in_place(%x: tensor<2x32xf32>, %r: tensor<2x16xf32>, %n: index) -> tensor<2x16xf32> {
  %w = ck.weight @u : !ck.q<16x32xf32>
  %a = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<16x32xf32>) -> tensor<2x16xf32>
  %b = ck.linear %x, %w add %a : (tensor<2x32xf32>, !ck.q<16x32xf32>, tensor<2x16xf32>) -> tensor<2x16xf32>
  %y = ck.silu %b : tensor<2x16xf32> -> tensor<2x16xf32>
  func.return %y : tensor<2x16xf32>
}

// Nothing to do: buffers already.
// CHECK-LABEL: func.func @buffers(
// CHECK-NEXT:    %a = rt.alloc : memref<2x16xf32>
// CHECK-NEXT:    func.return
func.func @buffers(%x: memref<2x32xf32>, %n: index) {
  %a = rt.alloc : memref<2x16xf32>
  func.return
}

// States are written where they lie, chains of additions too; the logits are memory of their own.
// CHECK-LABEL: func.func @states(
// CHECK-NEXT:    %g = rt.weight @grad.head : !ck.q<17x32xf32, rows>
// CHECK-NEXT:    %w = rt.weight @head : !ck.q<17x32xf32, rows>
// CHECK-NEXT:    %dh = rt.alloc : memref<2x32xf32>
// CHECK-NEXT:    %logits = rt.alloc : memref<2x17xf32>
// CHECK-NEXT:    rt.call @ck_cross_entropy_logits_f32 outs(%logits : {{.*}}) ins(%h, %w, %n :
// CHECK-NEXT:    rt.call @ck_cross_entropy_grad_rows outs(%nll, %logits : {{.*}}) ins(%t, %d, %n :
// CHECK-NEXT:    rt.call @ck_cross_entropy_dhidden_f32 outs(%dh : {{.*}}) ins(%logits, %w, %n :
// CHECK-NEXT:    rt.call @ck_cross_entropy_dw_f32 outs(%g : !ck.q<17x32xf32, rows>) ins(%logits, %h, %n : {{.*}}) {immediates = {first = 0 : i64, rows = 2 : i64, n_vocab = 17 : i64, d = 32 : i64, add = 1 : i64}
// CHECK-NEXT:    rt.call @ck_embed_bwd outs(%g : !ck.q<17x32xf32, rows>) ins(%t, %dh, %n : {{.*}}) {immediates = {n_vocab = 17 : i64, d = 32 : i64, add = 1 : i64}
// CHECK-NEXT:    func.return
func.func @states(%h: tensor<2x32xf32>, %t: tensor<2xi32>, %d: tensor<2x1xf32>, %n: index) -> tensor<2x1xf32> {
  %g = ck.weight @grad.head : !ck.q<17x32xf32, rows>
  %w = ck.weight @head : !ck.q<17x32xf32, rows>
  %nll, %dh, %dw, %logits = ck.cross_entropy_bwd %h, %w, %t, %d into %g
    : (tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2xi32>, tensor<2x1xf32>, !ck.q<17x32xf32, rows>)
    -> (tensor<2x1xf32>, tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2x17xf32>)
  %e = ck.embed_bwd %t, %dh into %dw {n_vocab = 17 : i64} : (tensor<2xi32>, tensor<2x32xf32>, !ck.q<17x32xf32, rows>) -> !ck.q<17x32xf32, rows>
  func.return %nll : tensor<2x1xf32>
}

// A gradient that is no state yet is memory; what adds to it adds there, and so does the sum at the end.
// CHECK-LABEL: func.func @fresh(
// CHECK-NEXT:    %g = rt.weight @grad.w
// CHECK-NEXT:    %a = rt.alloc : memref<32x32xf32>
// CHECK-NEXT:    rt.call @ck_matmul_tn_f32 outs(%a : {{.*}}) ins(%x, %x, %n :
// CHECK-NEXT:    rt.call @ck_matmul_tn_add_f32 outs(%a : {{.*}}) ins(%y, %x, %n :
// CHECK-NEXT:    rt.call @ck_accumulate outs(%g : {{.*}}) ins(%a : {{.*}}) {immediates = {n_elements = 1024 : i64}, split = "cols"}
// CHECK-NEXT:    func.return
func.func @fresh(%x: tensor<2x32xf32>, %y: tensor<2x32xf32>, %n: index) {
  %g = ck.weight @grad.w : !ck.q<32x32xf32, rows>
  %a = ck.matmul %x, %x {form = "tn"} : (tensor<2x32xf32>, tensor<2x32xf32>) -> !ck.q<32x32xf32, rows>
  %b = ck.matmul %y, %x add %a {form = "tn"} : (tensor<2x32xf32>, tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> !ck.q<32x32xf32, rows>
  %c = ck.accumulate %g, %b : !ck.q<32x32xf32, rows>, !ck.q<32x32xf32, rows> -> !ck.q<32x32xf32, rows>
  func.return
}

// Not in place: the product still reads rows of what it would overwrite.
// CHECK-LABEL: func.func @read_twice(
// CHECK:         %a = rt.alloc : memref<2x32xf32>
// CHECK-NEXT:    rt.call @ck_linear_f32 outs(%a :
// CHECK-NEXT:    %b = rt.alloc : memref<2x32xf32>
// CHECK-NEXT:    rt.call @ck_linear_add_f32 outs(%b : {{.*}}) ins(%a, %w, %a, %n :
func.func @read_twice(%x: tensor<2x32xf32>, %n: index) -> tensor<2x32xf32> {
  %w = ck.weight @w : !ck.q<32x32xf32>
  %a = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<32x32xf32>) -> tensor<2x32xf32>
  %b = ck.linear %a, %w add %a : (tensor<2x32xf32>, !ck.q<32x32xf32>, tensor<2x32xf32>) -> tensor<2x32xf32>
  %y = ck.silu %b : tensor<2x32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}

// A frozen head: no product is made for its gradient, which nothing reads, and no memory for it.
// CHECK-LABEL: func.func @frozen_head(
// CHECK:         rt.call @ck_cross_entropy_logits_f32
// CHECK-NEXT:    rt.call @ck_cross_entropy_grad_rows
// CHECK-NEXT:    rt.call @ck_cross_entropy_dhidden_f32
// CHECK-NEXT:    func.return
func.func @frozen_head(%h: tensor<2x32xf32>, %targets: tensor<2xi32>, %d: tensor<2x1xf32>, %n: index) -> (tensor<2x1xf32>, tensor<2x32xf32>) {
  %w = ck.weight @head : !ck.q<17x32xf32, rows>
  %nll, %dh, %dw, %logits = ck.cross_entropy_bwd %h, %w, %targets, %d : (tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2xi32>, tensor<2x1xf32>) -> (tensor<2x1xf32>, tensor<2x32xf32>, !ck.q<17x32xf32, rows>, tensor<2x17xf32>)
  func.return %nll, %dh : tensor<2x1xf32>, tensor<2x32xf32>
}
