#ifndef NORMD_TESTS_CORE_KERNELS_SIZES_H_
#define NORMD_TESTS_CORE_KERNELS_SIZES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/kernels/batch_extents.h"

namespace normd {

// 1, lanes - 1, lanes, lanes + 1 and 4 lanes + 3 for every lane count from 1 to 16.
inline constexpr size_t kSizesAroundLanes[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 15, 16, 17, 19, 35, 67};

// Extents of these sizes, at most one of which is several vectors long: two or three of them would
// take most of the time and walk no other way.
inline std::vector<BatchExtents> ExtentsAroundLanes() {
  constexpr size_t kFewVectors = 19;
  std::vector<BatchExtents> all;
  for (const size_t channels : kSizesAroundLanes) {
    for (const size_t samples : kSizesAroundLanes) {
      for (const size_t spatial : kSizesAroundLanes) {
        const int long_axes =
            (channels > kFewVectors) + (samples > kFewVectors) + (spatial > kFewVectors);
        if (long_axes <= 1) all.push_back({samples, channels, spatial});
      }
    }
  }
  return all;
}

inline size_t ValueCount(const BatchExtents& extents) {
  return extents.samples * extents.channels * extents.spatial;
}

// Extents of at least `values_min` values: every kind of walk, in runs that fill whole cache lines,
// in long ones at an address that is aligned to the element alone, and in short ones.
inline std::vector<BatchExtents> LargeExtents(size_t values_min) {
  return {{values_min / 10 + 1, 10, 1},           {values_min / 64 + 1, 64, 1},
          {values_min / 4099 + 1, 4099, 1},       {values_min / (300 * 7) + 1, 300, 7},
          {values_min / (320 * 3) + 1, 320, 3},   {values_min / (50 * 49) + 1, 50, 49},
          {values_min / (5 * 2051) + 1, 5, 2051}, {1, 3, values_min / 3 + 1}};
}

inline std::string ToString(const BatchExtents& extents) {
  return absl::StrCat("[", extents.samples, ",", extents.channels, ",", extents.spatial, "]");
}

}  // namespace normd

#endif  // NORMD_TESTS_CORE_KERNELS_SIZES_H_
