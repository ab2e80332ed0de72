#include "core/kernels/batch_extents.h"

#include <algorithm>
#include <cstddef>

namespace normd {
namespace {

// The input of a pass: with the output of the same size it leaves room in a second-level cache.
constexpr size_t kPassBytes = size_t{256} << 10;

// Shorter segments make the walk jump too often.
constexpr size_t kSegmentValuesMin = 48;

}  // namespace

size_t ChannelsPerPass(const BatchExtents& extents, size_t element_bytes) {
  const size_t all = std::max<size_t>(1, extents.channels);
  if (extents.spatial < kSegmentValuesMin || extents.samples == 0) return all;
  return std::clamp<size_t>(kPassBytes / (extents.samples * extents.spatial * element_bytes), 1,
                            all);
}

}  // namespace normd
