#ifndef NORMD_CORE_KERNELS_MOMENTS_H_
#define NORMD_CORE_KERNELS_MOMENTS_H_

#include "core/kernels/batch_extents.h"
#include "core/kernels/values.h"
#include "core/tensor/data_type.h"

namespace normd {

// Per channel, over count = samples * spatial values: mean[c] = sum(x) / count and
// m2[c] = sum((x - mean)^2). One pass over `x`: a channel is cut into blocks of a bounded number of
// values; each block is summed in float64, shifted by a pivot (the mean of its first values), and
// merged into the channel's result by Chan's formula. Hence |mean| >> sqrt(var), an outlier that
// stands first and a very large count lose nothing: m2 is within 1e-9 (relative) of exact.
// Not finite values stay in their channel: one NaN, or infinities of both signs, gives mean NaN;
// infinities of one sign give that infinity; either way m2 is NaN.
// T: float, double, Float16, Bfloat16. Doubles above 1e150 may overflow: m2, or mean and m2, are
// then not finite. Of doubles the bound on m2 holds while |mean| < 1e7 sqrt(m2 / count).
// REQUIRES: x holds samples * channels * spatial elements, at any address; mean and m2 hold
// `channels` doubles; count >= 1. Thread-safe. Uses up to 64 KB of stack.
template <typename T>
void ComputeMoments(const T* x, const BatchExtents& extents, double* mean, double* m2);

// The same for the channels of `range` alone; touches no other element of mean and m2.
// REQUIRES: range.first + range.count <= extents.channels.
template <typename T>
void ComputeMoments(const T* x, const BatchExtents& extents, ChannelRange range, double* mean,
                    double* m2);

// The same for values that may lie anywhere.
template <typename T>
void ComputeMoments(const Values<T>& x, const BatchExtents& extents, ChannelRange range,
                    double* mean, double* m2);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_MOMENTS_H_
