// The code of non_finite.h for one SIMD target. Included by non_finite.cc alone, once for every
// target.

#if defined(NORMD_CORE_KERNELS_NON_FINITE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NORMD_CORE_KERNELS_NON_FINITE_INL_H_
#undef NORMD_CORE_KERNELS_NON_FINITE_INL_H_
#else
#define NORMD_CORE_KERNELS_NON_FINITE_INL_H_
#endif

#include <cmath>
#include <cstddef>
#include <limits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace normd {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

inline size_t FindNonFiniteForTarget(const float* x, size_t n) {
  const hn::ScalableTag<float> d;
  const size_t step = 4 * hn::Lanes(d);
  const auto largest = hn::Set(d, std::numeric_limits<float>::max());
  size_t i = 0;
  for (; i + step <= n; i += step) {
    // A comparison with NaN is false.
    const auto low = hn::And(hn::Le(hn::Abs(hn::LoadU(d, x + i)), largest),
                             hn::Le(hn::Abs(hn::LoadU(d, x + i + step / 4)), largest));
    const auto high = hn::And(hn::Le(hn::Abs(hn::LoadU(d, x + i + step / 2)), largest),
                              hn::Le(hn::Abs(hn::LoadU(d, x + i + 3 * step / 4)), largest));
    if (!hn::AllTrue(d, hn::And(low, high))) break;
  }
  for (; i < n; ++i) {
    if (!std::isfinite(x[i])) return i;
  }
  return n;
}

}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
