#ifndef NORMD_CORE_KERNELS_NORMALIZE_PLAN_H_
#define NORMD_CORE_KERNELS_NORMALIZE_PLAN_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <type_traits>

#include "core/kernels/batch_extents.h"
#include "core/tensor/data_type.h"

// How the normalize kernels cut their work; the same on every SIMD target.
namespace normd {

// Lanes of Compute, float or double, that a vector holds at most. Segments at least this long are
// walked as such, shorter ones as columns.
template <typename Compute>
inline constexpr size_t kComputeLanesMax = 64 / sizeof(Compute);

inline constexpr size_t kStripColumnsMax = 1024;  // their coefficients fit in 12 KB, doubles in 24

// How many rows of `row_length` values to walk as one, so that a short row fills whole vectors of
// Compute and, with many rows, a long run; 1 when the row is long or the rows are few.
template <typename Compute>
constexpr size_t StripReplicas(size_t rows, size_t row_length) {
  const size_t lanes = kComputeLanesMax<Compute>;
  const size_t unit = lanes / std::gcd(lanes, row_length);
  if (unit * row_length > kStripColumnsMax || unit > rows) return 1;
  size_t replicas = unit;
  while (2 * replicas * row_length <= kStripColumnsMax && 32 * replicas <= rows) replicas *= 2;
  return replicas;
}

// How many rows of a batch's `range` to walk as one: whole rows alone are neighbours.
template <typename Compute>
constexpr size_t RangeReplicas(const BatchExtents& extents, ChannelRange range) {
  if (range.count < extents.channels) return 1;
  return StripReplicas<Compute>(extents.samples, extents.channels * extents.spatial);
}

// How many neighbouring values of a batch's `range` are walked in one go.
template <typename Compute>
constexpr size_t RunValues(const BatchExtents& extents, ChannelRange range) {
  if (extents.spatial >= kComputeLanesMax<Compute>) return extents.spatial;
  const size_t columns = range.count * extents.spatial * RangeReplicas<Compute>(extents, range);
  if (extents.spatial == 1) return columns;
  return std::min(columns, kStripColumnsMax / extents.spatial * extents.spatial);
}

// Smaller outputs are worth keeping in the cache.
inline constexpr size_t kStreamBytesMin = size_t{16} << 20;

// A run that begins or ends within a cache line shares it with another, and a line that is written
// in two parts past the cache takes as long as some KB.
inline constexpr size_t kCacheLineBytes = 64;
inline constexpr size_t kStreamRunBytesMin = size_t{8} << 10;

// Whether large outputs of T may bypass the cache: those whose values a vector stores as they are.
template <typename T>
inline constexpr bool kStreams = std::is_floating_point_v<T>;

// Whether an output of `values` values, written in runs of `run`, does. REQUIRES: kStreams<T>.
template <typename T>
bool BypassesCache(const T* x, size_t values, size_t run, const T* y) {
  if (values * sizeof(T) < kStreamBytesMin || x == y) return false;
  const size_t run_bytes = run * sizeof(T);
  const bool whole_lines =
      reinterpret_cast<uintptr_t>(y) % kCacheLineBytes == 0 && run_bytes % kCacheLineBytes == 0;
  return whole_lines || run_bytes >= kStreamRunBytesMin;
}

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_NORMALIZE_PLAN_H_
