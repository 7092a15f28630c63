#define CK_PACKED_CONV1D ck_packed_conv1d__scalar
#define CK_PACKED_CONV1D_BWD ck_packed_conv1d_bwd__scalar
#include "packed_conv1d.inc"
