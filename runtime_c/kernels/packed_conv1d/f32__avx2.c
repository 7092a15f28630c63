#define CK_PACKED_CONV1D ck_packed_conv1d__avx2
#define CK_PACKED_CONV1D_BWD ck_packed_conv1d_bwd__avx2
#include "packed_conv1d.inc"
