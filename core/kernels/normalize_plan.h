#ifndef NORMD_CORE_KERNELS_NORMALIZE_PLAN_H_
#define NORMD_CORE_KERNELS_NORMALIZE_PLAN_H_

#include <cstddef>
#include <numeric>

// How the normalize kernels cut their work; the same on every SIMD target.
namespace normd {

// Floats a vector holds at most. Segments at least this long are walked as such, shorter ones as
// columns.
inline constexpr size_t kFloatLanesMax = 16;

inline constexpr size_t kFloatColumnsMax = 1024;  // their coefficients fit in 12 KB

// Smaller outputs are worth keeping in the cache.
inline constexpr size_t kStreamBytesMin = size_t{64} << 20;

// How many rows of `row_length` values to walk as one, so that a short row fills whole vectors and,
// with many rows, a long run; 1 when the row is long or the rows are few.
constexpr size_t FloatColumnReplicas(size_t rows, size_t row_length) {
  const size_t unit = kFloatLanesMax / std::gcd(kFloatLanesMax, row_length);
  if (unit * row_length > kFloatColumnsMax || unit > rows) return 1;
  size_t replicas = unit;
  while (2 * replicas * row_length <= kFloatColumnsMax && 32 * replicas <= rows) replicas *= 2;
  return replicas;
}

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_NORMALIZE_PLAN_H_
