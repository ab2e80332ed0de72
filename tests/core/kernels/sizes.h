#ifndef NORMD_TESTS_CORE_KERNELS_SIZES_H_
#define NORMD_TESTS_CORE_KERNELS_SIZES_H_

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "core/kernels/batch_extents.h"

namespace normd {

// 1, lanes - 1, lanes, lanes + 1 and 4 lanes + 3 for every lane count from 1 to 16.
inline constexpr size_t kSizesAroundLanes[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 15, 16, 17, 19, 35, 67};

inline size_t ValueCount(const BatchExtents& extents) {
  return extents.samples * extents.channels * extents.spatial;
}

inline std::string ToString(const BatchExtents& extents) {
  return absl::StrCat("[", extents.samples, ",", extents.channels, ",", extents.spatial, "]");
}

}  // namespace normd

#endif  // NORMD_TESTS_CORE_KERNELS_SIZES_H_
