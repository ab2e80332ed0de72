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
#include <cstdint>
#include <limits>

#include "core/tensor/data_type.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace normd {
namespace HWY_NAMESPACE {
// One .cc alone includes this header. NOLINTNEXTLINE(google-build-namespaces)
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Tells the finite among floats or doubles.
template <typename T>
struct FloatingCheck {
  using Lane = T;

  template <class D>
  HWY_INLINE static hn::Mask<D> AreFinite(D d, const T* x) {
    // A comparison with NaN is false.
    return hn::Le(hn::Abs(hn::LoadU(d, x)), hn::Set(d, std::numeric_limits<T>::max()));
  }

  HWY_INLINE static bool IsFinite(T value) { return std::isfinite(value); }
};

// Tells the finite among values of a 16-bit type by their bits: infinity and NaN alone have
// magnitudes of kInfinity and more.
template <typename T, int16_t kInfinity>
struct HalfCheck {
  using Lane = int16_t;
  static constexpr int16_t kMagnitude = 0x7fff;

  template <class D>
  HWY_INLINE static hn::Mask<D> AreFinite(D d, const T* x) {
    const auto bits = hn::LoadU(d, reinterpret_cast<const int16_t*>(x));
    return hn::Lt(hn::And(bits, hn::Set(d, kMagnitude)), hn::Set(d, kInfinity));
  }

  HWY_INLINE static bool IsFinite(T value) { return (value.bits & kMagnitude) < kInfinity; }
};

template <class Check, typename T>
size_t FindFirst(const T* x, size_t n) {
  const hn::ScalableTag<typename Check::Lane> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto low = hn::And(Check::AreFinite(d, x + i), Check::AreFinite(d, x + i + lanes));
    const auto high =
        hn::And(Check::AreFinite(d, x + i + 2 * lanes), Check::AreFinite(d, x + i + 3 * lanes));
    if (!hn::AllTrue(d, hn::And(low, high))) break;
  }
  for (; i < n; ++i) {
    if (!Check::IsFinite(ValueAt(x + i))) return i;
  }
  return n;
}

}  // namespace

// A name for every type, since HWY_EXPORT takes no template.
inline constexpr auto& kFindNonFiniteFloat32 = FindFirst<FloatingCheck<float>, float>;
inline constexpr auto& kFindNonFiniteFloat64 = FindFirst<FloatingCheck<double>, double>;
inline constexpr auto& kFindNonFiniteFloat16 = FindFirst<HalfCheck<Float16, 0x7c00>, Float16>;
inline constexpr auto& kFindNonFiniteBfloat16 = FindFirst<HalfCheck<Bfloat16, 0x7f80>, Bfloat16>;

}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
