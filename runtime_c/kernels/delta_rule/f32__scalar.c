#define CK_DELTA_RULE ck_delta_rule_f32__scalar
#include "delta_rule.inc"
