// Two layers that are trained, the smallest on which every pass has something to do: a gate, residual sums, a
// weight used twice, a loss over a vocabulary; odd widths, activations recomputed, products in bf16.
module attributes {ck.training = {budget = 0.5 : f32, dtype = "bf16"}} {
  func.func @train_step(%tokens: tensor<5xi32>, %targets: tensor<5xi32>, %n: index) -> tensor<5x1xf32> attributes {ck.entry, ck.trainable = [@embed, @blk.0.norm, @blk.0.gate, @blk.0.up, @blk.0.down, @blk.1.norm, @blk.1.gate, @blk.1.up, @blk.1.down, @shared, @head]} {
    %embed = ck.weight @embed : !ck.q<13x17xf32, rows>
    %x_0 = ck.embed %tokens, %embed : tensor<5xi32>, !ck.q<13x17xf32, rows> -> tensor<5x17xf32>
    %blk_0_norm = ck.weight @blk.0.norm : tensor<17xf32>
    %a_0 = ck.rms_norm %x_0, %blk_0_norm {eps = 1.0e-05 : f32} : tensor<5x17xf32>, tensor<17xf32> -> tensor<5x17xf32>
    %blk_0_gate = ck.weight @blk.0.gate : !ck.q<19x17xf32, rows>
    %g_0 = ck.linear %a_0, %blk_0_gate : (tensor<5x17xf32>, !ck.q<19x17xf32, rows>) -> tensor<5x19xf32>
    %blk_0_up = ck.weight @blk.0.up : !ck.q<19x17xf32, rows>
    %u_0 = ck.linear %a_0, %blk_0_up : (tensor<5x17xf32>, !ck.q<19x17xf32, rows>) -> tensor<5x19xf32>
    %s_0 = ck.silu %g_0 : tensor<5x19xf32> -> tensor<5x19xf32>
    %m_0 = ck.mul %s_0, %u_0 : tensor<5x19xf32>, tensor<5x19xf32> -> tensor<5x19xf32>
    %blk_0_down = ck.weight @blk.0.down : !ck.q<17x19xf32, rows>
    %d_0 = ck.linear %m_0, %blk_0_down : (tensor<5x19xf32>, !ck.q<17x19xf32, rows>) -> tensor<5x17xf32>
    %x_1 = ck.add %x_0, %d_0 : tensor<5x17xf32>, tensor<5x17xf32> -> tensor<5x17xf32>
    %blk_1_norm = ck.weight @blk.1.norm : tensor<17xf32>
    %a_1 = ck.rms_norm %x_1, %blk_1_norm {eps = 1.0e-05 : f32} : tensor<5x17xf32>, tensor<17xf32> -> tensor<5x17xf32>
    %blk_1_gate = ck.weight @blk.1.gate : !ck.q<19x17xf32, rows>
    %g_1 = ck.linear %a_1, %blk_1_gate : (tensor<5x17xf32>, !ck.q<19x17xf32, rows>) -> tensor<5x19xf32>
    %blk_1_up = ck.weight @blk.1.up : !ck.q<19x17xf32, rows>
    %u_1 = ck.linear %a_1, %blk_1_up : (tensor<5x17xf32>, !ck.q<19x17xf32, rows>) -> tensor<5x19xf32>
    %s_1 = ck.silu %g_1 : tensor<5x19xf32> -> tensor<5x19xf32>
    %m_1 = ck.mul %s_1, %u_1 : tensor<5x19xf32>, tensor<5x19xf32> -> tensor<5x19xf32>
    %blk_1_down = ck.weight @blk.1.down : !ck.q<17x19xf32, rows>
    %d_1 = ck.linear %m_1, %blk_1_down : (tensor<5x19xf32>, !ck.q<17x19xf32, rows>) -> tensor<5x17xf32>
    %x_2 = ck.add %x_1, %d_1 : tensor<5x17xf32>, tensor<5x17xf32> -> tensor<5x17xf32>
    %shared = ck.weight @shared : !ck.q<17x17xf32, rows>
    %p_0 = ck.linear %x_1, %shared : (tensor<5x17xf32>, !ck.q<17x17xf32, rows>) -> tensor<5x17xf32>
    %p_1 = ck.linear %x_2, %shared : (tensor<5x17xf32>, !ck.q<17x17xf32, rows>) -> tensor<5x17xf32>
    %p = ck.add %p_0, %p_1 : tensor<5x17xf32>, tensor<5x17xf32> -> tensor<5x17xf32>
    %head = ck.weight @head : !ck.q<13x17xf32, rows>
    %nll, %logits = ck.cross_entropy %p, %head, %targets : (tensor<5x17xf32>, !ck.q<13x17xf32, rows>, tensor<5xi32>) -> (tensor<5x1xf32>, tensor<5x13xf32>)
    func.return %nll : tensor<5x1xf32>
}
}
