#ifndef NORMD_CORE_KERNELS_NORMALIZE_H_
#define NORMD_CORE_KERNELS_NORMALIZE_H_

#include "core/kernels/batch_extents.h"

namespace normd {

// y = (x - center[c]) * scale[c] + offset[c] in float32 for every value of channel c; the product
// and sum are fused where the CPU can. Subtracts first: x * scale - center * scale cancels when
// |mean| >> sqrt(var). With mean in float64 the caller passes center = float(mean) and puts the
// rest of the mean into offset. Not finite values go through the arithmetic as they are.
// Outputs of 64 MB and more bypass the cache unless y is x.
// REQUIRES: x and y hold samples * channels * spatial floats (aligned to 4 bytes) and are the same
// or do not overlap; center, scale and offset hold `channels` floats and do not overlap y.
// Thread-safe. Uses up to 16 KB of stack.
void Normalize(const float* x, const BatchExtents& extents, const float* center, const float* scale,
               const float* offset, float* y);

// The same for the channels of `range` alone; touches no other value of y.
// REQUIRES: range.first + range.count <= extents.channels.
void Normalize(const float* x, const BatchExtents& extents, ChannelRange range, const float* center,
               const float* scale, const float* offset, float* y);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_NORMALIZE_H_
