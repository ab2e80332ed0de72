#ifndef NORMD_CORE_KERNELS_MOMENTS_PLAN_H_
#define NORMD_CORE_KERNELS_MOMENTS_PLAN_H_

#include <cstddef>
#include <numeric>

// How the moments kernels cut their work; the same on every SIMD target. Shifting a block by the
// mean of its first p of n values makes sum((x - pivot)^2) at most 1 + n/p times m2, since the
// first values are themselves in m2. With blocks of at most kBlockValues (twice that for one long
// segment) or kBlockRows values a chain of additions, the relative error of m2 stays below 1e-9.
namespace normd {

// Doubles a vector holds at most. Segments at least this long are walked as such, shorter ones as
// columns.
inline constexpr size_t kLanesMax = 8;

// Segments.
inline constexpr size_t kPivotValues = 16;
inline constexpr size_t kBlockValues = 16384;
inline constexpr size_t kTileValues = 2048;  // of neighbouring channels in a sample: 8 KB of floats

// A block's share of m2 in sum((x - pivot)^2) is at least p / (n + p), above 2^-15; where the last
// bit of one value is all that differs, the rounding of the pivot can bring it down to 2^-25.
// Rounding of the sums leaves less than 2^-37.
inline constexpr double kNoiseShare = 0x1p-28;

// Columns.
inline constexpr size_t kColumnsMax = 2048;  // their pivots and sums fit in 48 KB
inline constexpr size_t kBlockRows = 4096;
// Rows added for one load and store of the sums. Rows that are a power of two long share their
// cache sets: eight ways hold no more than these rows of x and dy.
inline constexpr size_t kRowGroup = 4;

static_assert(kTileValues % kLanesMax == 0 && kColumnsMax % kLanesMax == 0);
static_assert(kPivotValues >= kLanesMax, "a pivot is the mean of at least eight values");

// Rows whose mean is the pivot when each holds `spatial` values of a channel.
constexpr size_t PivotRows(size_t spatial) {
  return spatial == 1 ? 8 : (kPivotValues + spatial - 1) / spatial;
}

// How many rows of `row_length` values to walk as one, so that a short row fills whole vectors; 1
// when the row is long or the rows are few.
constexpr size_t ColumnReplicas(size_t rows, size_t row_length) {
  const size_t unit = kLanesMax / std::gcd(kLanesMax, row_length);
  if (unit * row_length > kColumnsMax / 2 || unit > rows) return 1;
  size_t replicas = unit;
  while (replicas * row_length < 8 * kLanesMax && replicas * 16 <= rows) replicas *= 2;
  return replicas;
}

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_MOMENTS_PLAN_H_
