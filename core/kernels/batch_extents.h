#ifndef NORMD_CORE_KERNELS_BATCH_EXTENTS_H_
#define NORMD_CORE_KERNELS_BATCH_EXTENTS_H_

#include <cstddef>

namespace normd {

// How the values of a batch lie: value (sample n, channel c, position s) stands at
// ((n * channels) + c) * spatial + s. A batch with the channel last is `samples` = N x spatial rows
// of `channels` values with `spatial` = 1. Values per channel: samples * spatial.
struct BatchExtents {
  size_t samples = 0;
  size_t channels = 0;
  size_t spatial = 1;
};

// The same values as `extents`, with one channel's values taken as the neighbours they are.
constexpr BatchExtents Merged(const BatchExtents& extents) {
  if (extents.channels != 1) return extents;
  return {1, 1, extents.samples * extents.spatial};
}

// The neighbouring channels [first, first + count).
struct ChannelRange {
  size_t first = 0;
  size_t count = 0;
};

// How many neighbouring channels a caller that walks a batch twice (moments, then normalize) should
// take at a time, so that the second walk finds them in the cache; all of them where taking them
// one after the other does not pay. At least 1, and no more than there are, if there are any. A
// value takes `element_bytes`.
size_t ChannelsPerPass(const BatchExtents& extents, size_t element_bytes = sizeof(float));

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_BATCH_EXTENTS_H_
