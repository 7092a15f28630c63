// RUN: ck-opt %s -p ck-expand-math | filecheck %s

// The constants are one each; the vector and the scalar share a constant's scalar.
// CHECK-LABEL: @exp_rows
// CHECK:       %[[LOG2E:[0-9]+]] = arith.constant 1.44269502 : f32
// CHECK-NEXT:  %[[SPLAT:[0-9]+]] = vector.broadcast %[[LOG2E]] : f32 to vector<16xf32>
// CHECK-NOT:   arith.constant 1.44269502
// CHECK-NOT:   math.exp
// CHECK:       scf.for
// CHECK:       arith.mulf %{{.*}}, %[[SPLAT]] : vector<16xf32>
// CHECK:       vector.store %exp
// CHECK-NOT:   math.exp
func.func @exp_rows(%x: memref<4x16xf32>, %y: memref<4x16xf32>, %begin: index, %end: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %t = %begin to %end step %c1 {
    %v = vector.load %x[%t, %c0] : memref<4x16xf32>, vector<16xf32>
    %exp = math.exp %v : vector<16xf32>
    vector.store %exp, %y[%t, %c0] : memref<4x16xf32>, vector<16xf32>
  }
  func.return
}

// CHECK-LABEL: @scalars
// CHECK-NOT:   math.{{tanh|erf|log|sin|cos|rsqrt}}
// CHECK:       math.sqrt
func.func @scalars(%x: f32) -> f32 {
  %a = math.tanh %x : f32
  %b = math.erf %a : f32
  %c = math.log %b : f32
  %d = math.sin %c : f32
  %e = math.cos %d : f32
  %f = math.rsqrt %e : f32
  func.return %f : f32
}

// Nothing to do: exact functions stay, and so does a type that the polynomials are not for.
// CHECK-LABEL: @exact
// CHECK-NEXT:    %a = math.sqrt %x : f32
// CHECK-NEXT:    %b = math.absf %a : f32
// CHECK-NEXT:    %c = arith.extf %b : f32 to f64
// CHECK-NEXT:    %d = math.exp %c : f64
// CHECK-NEXT:    func.return %d : f64
func.func @exact(%x: f32) -> f64 {
  %a = math.sqrt %x : f32
  %b = math.absf %a : f32
  %c = arith.extf %b : f32 to f64
  %d = math.exp %c : f64
  func.return %d : f64
}

// A declaration has nothing to expand.
// CHECK-LABEL: func.func private @declared(f32) -> f32
func.func private @declared(f32) -> f32
