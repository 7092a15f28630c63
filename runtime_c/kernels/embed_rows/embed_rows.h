// embed_rows: rows of a row-major f32 matrix, gathered; embed_bwd: the gradient, scattered back.
//
//   embed_rows  y[t] = w[tokens[t]]
//   embed_bwd   dw[tokens[t]] += dy[t]; add 0: dw starts from 0
//
// n        live rows; embed_rows writes n rows
// tokens   [n]; a token outside [0, n_vocab) gives a row of NaN, and adds to nothing
// w, dw    [n_vocab][d] f32;  y, dy  [n][d] f32; no two overlap
// bits     embed_bwd adds in order of t, one rounding an addition
// threads  embed_rows: rows; embed_bwd: columns, 16 together
#pragma once

#include <math.h>
#include <string.h>

#include "../../ck_rt.h"
#include "../slice.h"
