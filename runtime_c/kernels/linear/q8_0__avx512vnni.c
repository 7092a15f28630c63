#include "avx512vnni.h"

#define CK_LINEAR_NAME ck_linear_q8_0__avx512vnni
#define CK_PACKED_BLOCK ck_r16_q8_0
#define CK_BLOCK_COLUMNS 32
#define CK_KIND CK_KIND_OFFSET
#define CK_OFFSET 128

static inline ck_block512 load_block(const uint8_t* panel, int64_t b) {
    const ck_r16_q8_0* w = (const ck_r16_q8_0*)panel + b;
    return (ck_block512){
        .u0 = ck_load512(w->q[0]), .u1 = ck_load512(w->q[1]), .u2 = ck_load512(w->q[2]),
        .u3 = ck_load512(w->q[3]), .u4 = ck_load512(w->q[4]), .u5 = ck_load512(w->q[5]),
        .u6 = ck_load512(w->q[6]), .u7 = ck_load512(w->q[7]), .d = ck_half512(w->d),
    };
}

#include "avx512vnni.inc"
