// The gated half of a block, for docs/debugging.md.
func.func @decode(%x: tensor<1x64xf32>, %n: index, %pos: index) -> tensor<1x64xf32> attributes {ck.entry} {
  %gain = ck.weight @norm : tensor<64xf32>
  %normed = ck.rms_norm %x, %gain {eps = 1.000000e-05 : f32} : tensor<1x64xf32>, tensor<64xf32> -> tensor<1x64xf32>
  %w_gate = ck.weight @gate : !ck.q<96x64xf16>
  %gate = ck.linear %normed, %w_gate : (tensor<1x64xf32>, !ck.q<96x64xf16>) -> tensor<1x96xf32>
  %w_up = ck.weight @up : !ck.q<96x64xf16>
  %up = ck.linear %normed, %w_up : (tensor<1x64xf32>, !ck.q<96x64xf16>) -> tensor<1x96xf32>
  %act = ck.silu %gate : tensor<1x96xf32> -> tensor<1x96xf32>
  %gated = ck.mul %act, %up : tensor<1x96xf32>, tensor<1x96xf32> -> tensor<1x96xf32>
  %w_down = ck.weight @down : !ck.q<64x96xf16>
  %down = ck.linear %gated, %w_down : (tensor<1x96xf32>, !ck.q<64x96xf16>) -> tensor<1x64xf32>
  %y = ck.add %x, %down : tensor<1x64xf32>, tensor<1x64xf32> -> tensor<1x64xf32>
  func.return %y : tensor<1x64xf32>
}
