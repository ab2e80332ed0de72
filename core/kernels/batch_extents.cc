#include "core/kernels/batch_extents.h"

#include <algorithm>
#include <cstddef>

namespace normd {
namespace {

// The input of a pass: with the output of the same size it leaves room in a second-level cache.
constexpr size_t kPassValues = (size_t{256} << 10) / sizeof(float);

// Shorter segments make the walk jump too often.
constexpr size_t kSegmentValuesMin = 48;

}  // namespace

size_t ChannelsPerPass(const BatchExtents& extents) {
  const size_t all = std::max<size_t>(1, extents.channels);
  if (extents.spatial < kSegmentValuesMin || extents.samples == 0) return all;
  return std::clamp<size_t>(kPassValues / (extents.samples * extents.spatial), 1, all);
}

}  // namespace normd
