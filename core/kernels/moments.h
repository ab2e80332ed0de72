#ifndef NORMD_CORE_KERNELS_MOMENTS_H_
#define NORMD_CORE_KERNELS_MOMENTS_H_

#include "core/kernels/batch_extents.h"

namespace normd {

// Per channel, over count = samples * spatial values: mean[c] = sum(x) / count and
// m2[c] = sum((x - mean)^2), in one pass over `x` with float64 accumulators shifted by a pivot (the
// mean of the channel's first values), so that |mean| >> sqrt(var) loses nothing.
// Not finite values stay in their channel: one NaN, or infinities of both signs, gives mean NaN;
// infinities of one sign give that infinity; either way m2 is NaN.
// REQUIRES: x holds samples * channels * spatial floats (aligned to 4 bytes); mean and m2 hold
// `channels` doubles; count >= 1. Thread-safe.
void ComputeMoments(const float* x, const BatchExtents& extents, double* mean, double* m2);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_MOMENTS_H_
