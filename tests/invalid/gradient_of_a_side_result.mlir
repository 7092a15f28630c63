// RUN: ck-opt %s -p 'ck-differentiate{wrt="head"}' --split-input-file --verify-diagnostics | filecheck %s

// CHECK: ck.cross_entropy: no gradient flows through logits, and a result reads them
func.func @logits(%h: tensor<2x32xf32>, %targets: tensor<2xi32>) -> tensor<2x64xf32> {
  %w = ck.weight @head : !ck.q<64x32xf32, rows>
  %nll, %logits = ck.cross_entropy %h, %w, %targets : (tensor<2x32xf32>, !ck.q<64x32xf32, rows>, tensor<2xi32>) -> (tensor<2x1xf32>, tensor<2x64xf32>)
  func.return %logits : tensor<2x64xf32>
}

// -----

// CHECK: ck.packed_attention: no gradient flows through lse, and a result reads it
func.func @lse(%x: tensor<2x32xf32>, %starts: tensor<2xi32>) -> tensor<2x2xf32> {
  %w = ck.weight @head : !ck.q<32x32xf32, rows>
  %q = ck.linear %x, %w : (tensor<2x32xf32>, !ck.q<32x32xf32, rows>) -> tensor<2x32xf32>
  %y, %lse = ck.packed_attention %q, %x, %x, %starts {heads = 2 : i64, kv_heads = 2 : i64, scale = 2.500000e-01 : f32, window = 0 : i64} : (tensor<2x32xf32>, tensor<2x32xf32>, tensor<2x32xf32>, tensor<2xi32>) -> (tensor<2x32xf32>, tensor<2x2xf32>)
  func.return %lse : tensor<2x2xf32>
}
