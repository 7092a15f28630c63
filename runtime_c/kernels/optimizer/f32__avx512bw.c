#define CK_OPTIMIZER(name) ck_##name##__avx512bw
#include "optimizer.inc"
