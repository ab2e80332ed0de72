#ifndef NORMD_CORE_KERNELS_NORMALIZE_H_
#define NORMD_CORE_KERNELS_NORMALIZE_H_

#include "core/kernels/batch_extents.h"

namespace normd {

// y = fma(x - center[c], scale[c], offset[c]) for every value of channel c. Subtracts first:
// x * scale - center * scale cancels when |mean| >> sqrt(var). With mean in float64 the caller
// passes center = float(mean) and puts the rest of the mean into offset.
// REQUIRES: x and y hold samples * channels * spatial floats and are the same or do not overlap;
// center, scale and offset hold `channels` floats. Thread-safe.
void Normalize(const float* x, const BatchExtents& extents, const float* center,
               const float* scale, const float* offset, float* y);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_NORMALIZE_H_
