#ifndef NORMD_CORE_KERNELS_MOMENTS_H_
#define NORMD_CORE_KERNELS_MOMENTS_H_

#include "core/kernels/batch_extents.h"

namespace normd {

// Per channel, over count = samples * spatial values: mean[c] = sum(x) / count and
// m2[c] = sum((x - mean)^2). One pass over `x`: a channel is cut into blocks of a bounded number of
// values; each block is summed in float64, shifted by a pivot (the mean of its first values), and
// merged into the channel's result by Chan's formula. Hence |mean| >> sqrt(var), an outlier that
// stands first and a very large count lose nothing: m2 is within 1e-9 (relative) of exact.
// Not finite values stay in their channel: one NaN, or infinities of both signs, gives mean NaN;
// infinities of one sign give that infinity; either way m2 is NaN.
// REQUIRES: x holds samples * channels * spatial floats (aligned to 4 bytes); mean and m2 hold
// `channels` doubles; count >= 1. Thread-safe. Uses up to 64 KB of stack.
void ComputeMoments(const float* x, const BatchExtents& extents, double* mean, double* m2);

// The same for the channels of `range` alone; touches no other element of mean and m2.
// REQUIRES: range.first + range.count <= extents.channels.
void ComputeMoments(const float* x, const BatchExtents& extents, ChannelRange range, double* mean,
                    double* m2);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_MOMENTS_H_
