#define CK_DELTA_RULE ck_delta_rule_f32__avx2
#include "delta_rule.inc"
