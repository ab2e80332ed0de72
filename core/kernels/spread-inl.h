// Coefficients of channels laid out as columns are, for the kernels of one SIMD target.

#if defined(NORMD_CORE_KERNELS_SPREAD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NORMD_CORE_KERNELS_SPREAD_INL_H_
#undef NORMD_CORE_KERNELS_SPREAD_INL_H_
#else
#define NORMD_CORE_KERNELS_SPREAD_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "core/kernels/normalize_plan.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace normd {
namespace HWY_NAMESPACE {
// Each .cc that includes this has a copy of its own. NOLINTNEXTLINE(google-build-namespaces)
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// to[0, count * replicas) = values[0, count), again and again.
template <typename C>
HWY_INLINE void Repeat(const C* values, size_t count, size_t replicas, C* HWY_RESTRICT to) {
  const hn::CappedTag<C, kComputeLanesMax<C>> d;
  const size_t lanes = hn::Lanes(d);
  if (count >= lanes) {
    // Calls to memmove would take longer than small batches.
    for (size_t replica = 0; replica < replicas; ++replica, to += count) {
      for (size_t i = 0; i + lanes < count; i += lanes) {
        hn::StoreU(hn::LoadU(d, values + i), d, to + i);
      }
      hn::StoreU(hn::LoadU(d, values + count - lanes), d, to + count - lanes);
    }
    return;
  }
  std::copy_n(values, count, to);
  for (size_t done = 1; done < replicas;) {
    const size_t more = std::min(done, replicas - done);
    std::copy_n(to, more * count, to + done * count);
    done += more;
  }
}

// Repeats every value `spatial` times, then the whole `replicas` times.
template <typename C>
HWY_INLINE void Spread(const C* values, size_t count, size_t spatial, size_t replicas,
                       C* HWY_RESTRICT to) {
  if (spatial == 1) {
    Repeat(values, count, replicas, to);
    return;
  }
  for (size_t i = 0; i < count; ++i) std::fill_n(to + i * spatial, spatial, values[i]);
  const size_t length = count * spatial;
  if (replicas > 1) Repeat<C>(to, length, replicas - 1, to + length);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
