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

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_BATCH_EXTENTS_H_
