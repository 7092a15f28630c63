#define CK_OPTIMIZER(name) ck_##name##__scalar
#include "optimizer.inc"
