#define CK_OPTIMIZER(name) ck_##name##__avx2
#include "optimizer.inc"
