// Two layers of a model, the smallest on which every pass has something to do: cached attention, a gate, residual
// sums, weights of four storage types, an entry of one row; a table made twice and a dead value.
func.func @prefill(%x: tensor<5x32xf32>, %n: index, %pos: index) -> tensor<5x32xf32> attributes {ck.entry} {
  %freq = ck.weight @freq : tensor<8xf32>
  %table_0 = ck.rope_table %freq, %pos {rows = 5 : i64} : tensor<8xf32>, index -> tensor<5x16xf32>
  %table_1 = ck.rope_table %freq, %pos {rows = 5 : i64} : tensor<8xf32>, index -> tensor<5x16xf32>
  %dead = ck.silu %x : tensor<5x32xf32> -> tensor<5x32xf32>
  %in = ck.weight @in : !ck.q<32x32xf32>
  %e = ck.linear %x, %in : (tensor<5x32xf32>, !ck.q<32x32xf32>) -> tensor<5x32xf32>
  %half = ck.scale %e {factor = 0.5 : f32} : tensor<5x32xf32> -> tensor<5x32xf32>
  %x_0 = ck.linear %half, %in : (tensor<5x32xf32>, !ck.q<32x32xf32>) -> tensor<5x32xf32>
  %blk_0_attn_norm = ck.weight @blk.0.attn_norm : tensor<32xf32>
  %a_0 = ck.rms_norm %x_0, %blk_0_attn_norm {eps = 1.0e-05 : f32} : tensor<5x32xf32>, tensor<32xf32> -> tensor<5x32xf32>
  %blk_0_q = ck.weight @blk.0.q : !ck.q<32x32xq8_0>
  %q_0 = ck.linear %a_0, %blk_0_q : (tensor<5x32xf32>, !ck.q<32x32xq8_0>) -> tensor<5x32xf32>
  %heads_0 = ck.reshape %q_0 : tensor<5x32xf32> -> tensor<10x16xf32>
  %blk_0_k = ck.weight @blk.0.k : !ck.q<16x32xf16>
  %k_0 = ck.linear %a_0, %blk_0_k : (tensor<5x32xf32>, !ck.q<16x32xf16>) -> tensor<5x16xf32>
  %blk_0_v = ck.weight @blk.0.v : !ck.q<16x32xf16>
  %v_0 = ck.linear %a_0, %blk_0_v : (tensor<5x32xf32>, !ck.q<16x32xf16>) -> tensor<5x16xf32>
  %rq_0 = ck.rope %q_0, %table_0 {heads = 2 : i64, mode = "neox"} : tensor<5x32xf32>, tensor<5x16xf32> -> tensor<5x32xf32>
  %rk_0 = ck.rope %k_0, %table_0 {heads = 1 : i64, mode = "neox"} : tensor<5x16xf32>, tensor<5x16xf32> -> tensor<5x16xf32>
  %kv_0 = ck.cache @blk.0.kv : !ck.kv<1x64x16xf32>
  %kept_0 = ck.kv_append %kv_0, %rk_0, %v_0, %n, %pos : !ck.kv<1x64x16xf32>, tensor<5x16xf32>, tensor<5x16xf32> -> !ck.kv<1x64x16xf32>
  %seen_0 = ck.attention %rq_0, %kept_0, %n, %pos {heads = 2 : i64, scale = 0.25 : f32, window = 0 : i64} : tensor<5x32xf32>, !ck.kv<1x64x16xf32> -> tensor<5x32xf32>
  %blk_0_o = ck.weight @blk.0.o : !ck.q<32x32xq8_0>
  %o_0 = ck.linear %seen_0, %blk_0_o : (tensor<5x32xf32>, !ck.q<32x32xq8_0>) -> tensor<5x32xf32>
  %gelu_0 = ck.gelu_tanh %heads_0 : tensor<10x16xf32> -> tensor<10x16xf32>
  %joined_0 = ck.reshape %gelu_0 : tensor<10x16xf32> -> tensor<5x32xf32>
  %sum_0 = ck.add %o_0, %joined_0 : tensor<5x32xf32>, tensor<5x32xf32> -> tensor<5x32xf32>
  %h_0 = ck.add %x_0, %sum_0 : tensor<5x32xf32>, tensor<5x32xf32> -> tensor<5x32xf32>
  %blk_0_ffn_norm = ck.weight @blk.0.ffn_norm : tensor<32xf32>
  %b_0 = ck.rms_norm %h_0, %blk_0_ffn_norm {eps = 1.0e-05 : f32} : tensor<5x32xf32>, tensor<32xf32> -> tensor<5x32xf32>
  %blk_0_gate = ck.weight @blk.0.gate : !ck.q<64x32xq4_1>
  %g_0 = ck.linear %b_0, %blk_0_gate : (tensor<5x32xf32>, !ck.q<64x32xq4_1>) -> tensor<5x64xf32>
  %blk_0_up = ck.weight @blk.0.up : !ck.q<64x32xq4_1>
  %u_0 = ck.linear %b_0, %blk_0_up : (tensor<5x32xf32>, !ck.q<64x32xq4_1>) -> tensor<5x64xf32>
  %s_0 = ck.silu %g_0 : tensor<5x64xf32> -> tensor<5x64xf32>
  %m_0 = ck.mul %s_0, %u_0 : tensor<5x64xf32>, tensor<5x64xf32> -> tensor<5x64xf32>
  %blk_0_down = ck.weight @blk.0.down : !ck.q<32x64xf32>
  %d_0 = ck.linear %m_0, %blk_0_down : (tensor<5x64xf32>, !ck.q<32x64xf32>) -> tensor<5x32xf32>
  %x_1 = ck.add %h_0, %d_0 : tensor<5x32xf32>, tensor<5x32xf32> -> tensor<5x32xf32>
  %blk_1_attn_norm = ck.weight @blk.1.attn_norm : tensor<32xf32>
  %a_1 = ck.rms_norm %x_1, %blk_1_attn_norm {eps = 1.0e-05 : f32} : tensor<5x32xf32>, tensor<32xf32> -> tensor<5x32xf32>
  %blk_1_q = ck.weight @blk.1.q : !ck.q<32x32xq8_0>
  %q_1 = ck.linear %a_1, %blk_1_q : (tensor<5x32xf32>, !ck.q<32x32xq8_0>) -> tensor<5x32xf32>
  %heads_1 = ck.reshape %q_1 : tensor<5x32xf32> -> tensor<10x16xf32>
  %blk_1_k = ck.weight @blk.1.k : !ck.q<16x32xf16>
  %k_1 = ck.linear %a_1, %blk_1_k : (tensor<5x32xf32>, !ck.q<16x32xf16>) -> tensor<5x16xf32>
  %blk_1_v = ck.weight @blk.1.v : !ck.q<16x32xf16>
  %v_1 = ck.linear %a_1, %blk_1_v : (tensor<5x32xf32>, !ck.q<16x32xf16>) -> tensor<5x16xf32>
  %rq_1 = ck.rope %q_1, %table_1 {heads = 2 : i64, mode = "neox"} : tensor<5x32xf32>, tensor<5x16xf32> -> tensor<5x32xf32>
  %rk_1 = ck.rope %k_1, %table_1 {heads = 1 : i64, mode = "neox"} : tensor<5x16xf32>, tensor<5x16xf32> -> tensor<5x16xf32>
  %kv_1 = ck.cache @blk.1.kv : !ck.kv<1x64x16xf32>
  %kept_1 = ck.kv_append %kv_1, %rk_1, %v_1, %n, %pos : !ck.kv<1x64x16xf32>, tensor<5x16xf32>, tensor<5x16xf32> -> !ck.kv<1x64x16xf32>
  %seen_1 = ck.attention %rq_1, %kept_1, %n, %pos {heads = 2 : i64, scale = 0.25 : f32, window = 0 : i64} : tensor<5x32xf32>, !ck.kv<1x64x16xf32> -> tensor<5x32xf32>
  %blk_1_o = ck.weight @blk.1.o : !ck.q<32x32xq8_0>
  %o_1 = ck.linear %seen_1, %blk_1_o : (tensor<5x32xf32>, !ck.q<32x32xq8_0>) -> tensor<5x32xf32>
  %gelu_1 = ck.gelu_tanh %heads_1 : tensor<10x16xf32> -> tensor<10x16xf32>
  %joined_1 = ck.reshape %gelu_1 : tensor<10x16xf32> -> tensor<5x32xf32>
  %sum_1 = ck.add %o_1, %joined_1 : tensor<5x32xf32>, tensor<5x32xf32> -> tensor<5x32xf32>
  %h_1 = ck.add %x_1, %sum_1 : tensor<5x32xf32>, tensor<5x32xf32> -> tensor<5x32xf32>
  %blk_1_ffn_norm = ck.weight @blk.1.ffn_norm : tensor<32xf32>
  %b_1 = ck.rms_norm %h_1, %blk_1_ffn_norm {eps = 1.0e-05 : f32} : tensor<5x32xf32>, tensor<32xf32> -> tensor<5x32xf32>
  %blk_1_gate = ck.weight @blk.1.gate : !ck.q<64x32xq4_1>
  %g_1 = ck.linear %b_1, %blk_1_gate : (tensor<5x32xf32>, !ck.q<64x32xq4_1>) -> tensor<5x64xf32>
  %blk_1_up = ck.weight @blk.1.up : !ck.q<64x32xq4_1>
  %u_1 = ck.linear %b_1, %blk_1_up : (tensor<5x32xf32>, !ck.q<64x32xq4_1>) -> tensor<5x64xf32>
  %s_1 = ck.silu %g_1 : tensor<5x64xf32> -> tensor<5x64xf32>
  %m_1 = ck.mul %s_1, %u_1 : tensor<5x64xf32>, tensor<5x64xf32> -> tensor<5x64xf32>
  %blk_1_down = ck.weight @blk.1.down : !ck.q<32x64xf32>
  %d_1 = ck.linear %m_1, %blk_1_down : (tensor<5x64xf32>, !ck.q<32x64xf32>) -> tensor<5x32xf32>
  %x_2 = ck.add %h_1, %d_1 : tensor<5x32xf32>, tensor<5x32xf32> -> tensor<5x32xf32>
  %z = ck.add %x_2, %x_0 : tensor<5x32xf32>, tensor<5x32xf32> -> tensor<5x32xf32>
  %l = ck.linear %z, %in : (tensor<5x32xf32>, !ck.q<32x32xf32>) -> tensor<5x32xf32>
  %y = ck.scale %l {factor = 0.75 : f32} : tensor<5x32xf32> -> tensor<5x32xf32>
  func.return %y : tensor<5x32xf32>
}
func.func @decode(%x: tensor<1x32xf32>, %n: index, %pos: index) -> tensor<1x32xf32> attributes {ck.entry} {
  %freq = ck.weight @freq : tensor<8xf32>
  %table_0 = ck.rope_table %freq, %pos {rows = 1 : i64} : tensor<8xf32>, index -> tensor<1x16xf32>
  %table_1 = ck.rope_table %freq, %pos {rows = 1 : i64} : tensor<8xf32>, index -> tensor<1x16xf32>
  %dead = ck.silu %x : tensor<1x32xf32> -> tensor<1x32xf32>
  %in = ck.weight @in : !ck.q<32x32xf32>
  %e = ck.linear %x, %in : (tensor<1x32xf32>, !ck.q<32x32xf32>) -> tensor<1x32xf32>
  %half = ck.scale %e {factor = 0.5 : f32} : tensor<1x32xf32> -> tensor<1x32xf32>
  %x_0 = ck.linear %half, %in : (tensor<1x32xf32>, !ck.q<32x32xf32>) -> tensor<1x32xf32>
  %blk_0_attn_norm = ck.weight @blk.0.attn_norm : tensor<32xf32>
  %a_0 = ck.rms_norm %x_0, %blk_0_attn_norm {eps = 1.0e-05 : f32} : tensor<1x32xf32>, tensor<32xf32> -> tensor<1x32xf32>
  %blk_0_q = ck.weight @blk.0.q : !ck.q<32x32xq8_0>
  %q_0 = ck.linear %a_0, %blk_0_q : (tensor<1x32xf32>, !ck.q<32x32xq8_0>) -> tensor<1x32xf32>
  %heads_0 = ck.reshape %q_0 : tensor<1x32xf32> -> tensor<2x16xf32>
  %blk_0_k = ck.weight @blk.0.k : !ck.q<16x32xf16>
  %k_0 = ck.linear %a_0, %blk_0_k : (tensor<1x32xf32>, !ck.q<16x32xf16>) -> tensor<1x16xf32>
  %blk_0_v = ck.weight @blk.0.v : !ck.q<16x32xf16>
  %v_0 = ck.linear %a_0, %blk_0_v : (tensor<1x32xf32>, !ck.q<16x32xf16>) -> tensor<1x16xf32>
  %rq_0 = ck.rope %q_0, %table_0 {heads = 2 : i64, mode = "neox"} : tensor<1x32xf32>, tensor<1x16xf32> -> tensor<1x32xf32>
  %rk_0 = ck.rope %k_0, %table_0 {heads = 1 : i64, mode = "neox"} : tensor<1x16xf32>, tensor<1x16xf32> -> tensor<1x16xf32>
  %kv_0 = ck.cache @blk.0.kv : !ck.kv<1x64x16xf32>
  %kept_0 = ck.kv_append %kv_0, %rk_0, %v_0, %n, %pos : !ck.kv<1x64x16xf32>, tensor<1x16xf32>, tensor<1x16xf32> -> !ck.kv<1x64x16xf32>
  %seen_0 = ck.attention %rq_0, %kept_0, %n, %pos {heads = 2 : i64, scale = 0.25 : f32, window = 0 : i64} : tensor<1x32xf32>, !ck.kv<1x64x16xf32> -> tensor<1x32xf32>
  %blk_0_o = ck.weight @blk.0.o : !ck.q<32x32xq8_0>
  %o_0 = ck.linear %seen_0, %blk_0_o : (tensor<1x32xf32>, !ck.q<32x32xq8_0>) -> tensor<1x32xf32>
  %gelu_0 = ck.gelu_tanh %heads_0 : tensor<2x16xf32> -> tensor<2x16xf32>
  %joined_0 = ck.reshape %gelu_0 : tensor<2x16xf32> -> tensor<1x32xf32>
  %sum_0 = ck.add %o_0, %joined_0 : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %h_0 = ck.add %x_0, %sum_0 : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %blk_0_ffn_norm = ck.weight @blk.0.ffn_norm : tensor<32xf32>
  %b_0 = ck.rms_norm %h_0, %blk_0_ffn_norm {eps = 1.0e-05 : f32} : tensor<1x32xf32>, tensor<32xf32> -> tensor<1x32xf32>
  %blk_0_gate = ck.weight @blk.0.gate : !ck.q<64x32xq4_1>
  %g_0 = ck.linear %b_0, %blk_0_gate : (tensor<1x32xf32>, !ck.q<64x32xq4_1>) -> tensor<1x64xf32>
  %blk_0_up = ck.weight @blk.0.up : !ck.q<64x32xq4_1>
  %u_0 = ck.linear %b_0, %blk_0_up : (tensor<1x32xf32>, !ck.q<64x32xq4_1>) -> tensor<1x64xf32>
  %s_0 = ck.silu %g_0 : tensor<1x64xf32> -> tensor<1x64xf32>
  %m_0 = ck.mul %s_0, %u_0 : tensor<1x64xf32>, tensor<1x64xf32> -> tensor<1x64xf32>
  %blk_0_down = ck.weight @blk.0.down : !ck.q<32x64xf32>
  %d_0 = ck.linear %m_0, %blk_0_down : (tensor<1x64xf32>, !ck.q<32x64xf32>) -> tensor<1x32xf32>
  %x_1 = ck.add %h_0, %d_0 : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %blk_1_attn_norm = ck.weight @blk.1.attn_norm : tensor<32xf32>
  %a_1 = ck.rms_norm %x_1, %blk_1_attn_norm {eps = 1.0e-05 : f32} : tensor<1x32xf32>, tensor<32xf32> -> tensor<1x32xf32>
  %blk_1_q = ck.weight @blk.1.q : !ck.q<32x32xq8_0>
  %q_1 = ck.linear %a_1, %blk_1_q : (tensor<1x32xf32>, !ck.q<32x32xq8_0>) -> tensor<1x32xf32>
  %heads_1 = ck.reshape %q_1 : tensor<1x32xf32> -> tensor<2x16xf32>
  %blk_1_k = ck.weight @blk.1.k : !ck.q<16x32xf16>
  %k_1 = ck.linear %a_1, %blk_1_k : (tensor<1x32xf32>, !ck.q<16x32xf16>) -> tensor<1x16xf32>
  %blk_1_v = ck.weight @blk.1.v : !ck.q<16x32xf16>
  %v_1 = ck.linear %a_1, %blk_1_v : (tensor<1x32xf32>, !ck.q<16x32xf16>) -> tensor<1x16xf32>
  %rq_1 = ck.rope %q_1, %table_1 {heads = 2 : i64, mode = "neox"} : tensor<1x32xf32>, tensor<1x16xf32> -> tensor<1x32xf32>
  %rk_1 = ck.rope %k_1, %table_1 {heads = 1 : i64, mode = "neox"} : tensor<1x16xf32>, tensor<1x16xf32> -> tensor<1x16xf32>
  %kv_1 = ck.cache @blk.1.kv : !ck.kv<1x64x16xf32>
  %kept_1 = ck.kv_append %kv_1, %rk_1, %v_1, %n, %pos : !ck.kv<1x64x16xf32>, tensor<1x16xf32>, tensor<1x16xf32> -> !ck.kv<1x64x16xf32>
  %seen_1 = ck.attention %rq_1, %kept_1, %n, %pos {heads = 2 : i64, scale = 0.25 : f32, window = 0 : i64} : tensor<1x32xf32>, !ck.kv<1x64x16xf32> -> tensor<1x32xf32>
  %blk_1_o = ck.weight @blk.1.o : !ck.q<32x32xq8_0>
  %o_1 = ck.linear %seen_1, %blk_1_o : (tensor<1x32xf32>, !ck.q<32x32xq8_0>) -> tensor<1x32xf32>
  %gelu_1 = ck.gelu_tanh %heads_1 : tensor<2x16xf32> -> tensor<2x16xf32>
  %joined_1 = ck.reshape %gelu_1 : tensor<2x16xf32> -> tensor<1x32xf32>
  %sum_1 = ck.add %o_1, %joined_1 : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %h_1 = ck.add %x_1, %sum_1 : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %blk_1_ffn_norm = ck.weight @blk.1.ffn_norm : tensor<32xf32>
  %b_1 = ck.rms_norm %h_1, %blk_1_ffn_norm {eps = 1.0e-05 : f32} : tensor<1x32xf32>, tensor<32xf32> -> tensor<1x32xf32>
  %blk_1_gate = ck.weight @blk.1.gate : !ck.q<64x32xq4_1>
  %g_1 = ck.linear %b_1, %blk_1_gate : (tensor<1x32xf32>, !ck.q<64x32xq4_1>) -> tensor<1x64xf32>
  %blk_1_up = ck.weight @blk.1.up : !ck.q<64x32xq4_1>
  %u_1 = ck.linear %b_1, %blk_1_up : (tensor<1x32xf32>, !ck.q<64x32xq4_1>) -> tensor<1x64xf32>
  %s_1 = ck.silu %g_1 : tensor<1x64xf32> -> tensor<1x64xf32>
  %m_1 = ck.mul %s_1, %u_1 : tensor<1x64xf32>, tensor<1x64xf32> -> tensor<1x64xf32>
  %blk_1_down = ck.weight @blk.1.down : !ck.q<32x64xf32>
  %d_1 = ck.linear %m_1, %blk_1_down : (tensor<1x64xf32>, !ck.q<32x64xf32>) -> tensor<1x32xf32>
  %x_2 = ck.add %h_1, %d_1 : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %z = ck.add %x_2, %x_0 : tensor<1x32xf32>, tensor<1x32xf32> -> tensor<1x32xf32>
  %l = ck.linear %z, %in : (tensor<1x32xf32>, !ck.q<32x32xf32>) -> tensor<1x32xf32>
  %y = ck.scale %l {factor = 0.75 : f32} : tensor<1x32xf32> -> tensor<1x32xf32>
  func.return %y : tensor<1x32xf32>
}
