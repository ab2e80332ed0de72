#include "core/kernels/normalize_coefficients.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/normalize_coefficients.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h:
#include "core/kernels/normalize_coefficients-inl.h"

#if HWY_ONCE
namespace normd {

HWY_EXPORT(NormalizeCoefficients);

bool ComputeNormalizeCoefficients(const NormalizeParameters& parameters, size_t n, float* center,
                                  float* scale, float* offset) {
  return HWY_DYNAMIC_DISPATCH(NormalizeCoefficients)(parameters, n, center, scale, offset);
}

}  // namespace normd
#endif  // HWY_ONCE
