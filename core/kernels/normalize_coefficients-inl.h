// The code of normalize_coefficients.h for one SIMD target. Included by normalize_coefficients.cc
// alone, once for every target.

#if defined(NORMD_CORE_KERNELS_NORMALIZE_COEFFICIENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NORMD_CORE_KERNELS_NORMALIZE_COEFFICIENTS_INL_H_
#undef NORMD_CORE_KERNELS_NORMALIZE_COEFFICIENTS_INL_H_
#else
#define NORMD_CORE_KERNELS_NORMALIZE_COEFFICIENTS_INL_H_
#endif

#include <cstddef>
#include <limits>

#include "core/kernels/normalize_coefficients.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace normd {
namespace HWY_NAMESPACE {
// One .cc alone includes this header. NOLINTNEXTLINE(google-build-namespaces)
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Where `value` is finite and of magnitude `least` and more.
template <class D>
HWY_INLINE hn::Mask<D> IsFiniteFrom(D d, hn::Vec<D> value, double least) {
  const auto magnitude = hn::Abs(value);
  return hn::And(hn::Ge(magnitude, hn::Set(d, least)),
                 hn::Le(magnitude, hn::Set(d, std::numeric_limits<double>::max())));
}

// Where float32 does not hold a coefficient; see core/norm/wide.h.
template <class D>
HWY_INLINE hn::Mask<D> AreUnheld(D d, hn::Vec<D> mean, hn::Vec<D> scale, hn::Vec<D> offset) {
  constexpr double kAboveFloat = 0x1.fffffe0000001p127;
  const auto magnitude = hn::Abs(scale);
  const auto tiny = hn::And(hn::Gt(magnitude, hn::Zero(d)),
                            hn::Lt(magnitude, hn::Set(d, std::numeric_limits<float>::min())));
  return hn::Or(hn::Or(IsFiniteFrom(d, mean, 0x1p103), IsFiniteFrom(d, offset, kAboveFloat)),
                hn::Or(IsFiniteFrom(d, scale, kAboveFloat), tiny));
}

// Lanes(d) channels from `at` on; where they are not held.
template <class D>
HWY_INLINE hn::Mask<D> Compute(D d, const NormalizeParameters& parameters, size_t at, float* center,
                               float* scale, float* offset) {
  const hn::Rebind<float, D> df;
  const auto one = hn::Set(d, 1.0);
  const auto mean = hn::LoadU(d, parameters.mean + at);
  const auto spread = hn::Add(hn::LoadU(d, parameters.var + at), hn::Set(d, parameters.eps));
  const auto weight = parameters.weight == nullptr ? one : hn::LoadU(d, parameters.weight + at);
  const auto bias = parameters.bias == nullptr ? hn::Zero(d) : hn::LoadU(d, parameters.bias + at);
  const auto wide_scale = hn::Mul(hn::Div(one, hn::Sqrt(spread)), weight);
  const auto rounded_mean = hn::DemoteTo(df, mean);
  const auto rest = hn::Sub(mean, hn::PromoteTo(d, rounded_mean));
  const auto wide_offset = hn::Sub(bias, hn::Mul(rest, wide_scale));
  hn::StoreU(rounded_mean, df, center + at);
  hn::StoreU(hn::DemoteTo(df, wide_scale), df, scale + at);
  hn::StoreU(hn::DemoteTo(df, wide_offset), df, offset + at);
  return AreUnheld(d, mean, wide_scale, wide_offset);
}

}  // namespace

bool NormalizeCoefficients(const NormalizeParameters& parameters, size_t n,
                           float* HWY_RESTRICT center, float* HWY_RESTRICT scale,
                           float* HWY_RESTRICT offset) {
  const hn::ScalableTag<double> d;
  const hn::CappedTag<double, 1> one;
  const size_t lanes = hn::Lanes(d);
  auto unheld = hn::MaskFromVec(hn::Zero(d));
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    unheld = hn::Or(unheld, Compute(d, parameters, i, center, scale, offset));
  }
  bool held = hn::AllFalse(d, unheld);
  for (; i < n; ++i) {
    held &= hn::AllFalse(one, Compute(one, parameters, i, center, scale, offset));
  }
  return held;
}

}  // namespace HWY_NAMESPACE
}  // namespace normd
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
