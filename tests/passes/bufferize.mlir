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
