#define CK_DELTA_RULE ck_delta_rule_f32__avx512bw
#include "delta_rule.inc"
