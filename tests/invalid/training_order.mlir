// RUN: ck-opt %s -p 'ck-differentiate{wrt="gain"},ck-differentiate{wrt="gain"}' --verify-diagnostics | filecheck %s
// RUN: ck-opt %s -p ck-fuse-rows,ck-bufferize,ck-differentiate --verify-diagnostics | filecheck %s --check-prefix=LATE
// RUN: ck-opt %s -p ck-differentiate,ck-fuse-rows,ck-bufferize,ck-add-optimizer --verify-diagnostics | filecheck %s --check-prefix=OPTIMIZER
// RUN: ck-opt %s -p 'ck-differentiate,ck-fuse-rows,ck-bufferize,ck-recompute-activations{budget=0.0}' --verify-diagnostics | filecheck %s --check-prefix=RECOMPUTE

// CHECK:     ck-differentiate: @f has gradients already
// LATE:      ck-differentiate: @f holds buffers: run it before ck-bufferize
// OPTIMIZER: ck-add-optimizer: @f holds buffers: run it before ck-bufferize
// RECOMPUTE: ck-recompute-activations: @f holds buffers: run it before ck-bufferize
func.func @f(%x: tensor<2x32xf32>, %n: index) -> tensor<2x32xf32> attributes {ck.trainable = [@gain]} {
  %gain = ck.weight @gain : tensor<32xf32>
  %y = ck.rms_norm %x, %gain {eps = 1.000000e-05 : f32} : tensor<2x32xf32>, tensor<32xf32> -> tensor<2x32xf32>
  func.return %y : tensor<2x32xf32>
}
