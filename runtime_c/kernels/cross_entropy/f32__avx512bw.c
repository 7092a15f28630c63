#define CK_CROSS_ENTROPY(name) ck_cross_entropy_##name##__avx512bw
#include "rows.inc"
