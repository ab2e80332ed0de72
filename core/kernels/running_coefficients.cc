#include "core/kernels/running_coefficients.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/running_coefficients.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h:
#include "core/kernels/running_coefficients-inl.h"

#if HWY_ONCE
namespace normd {

HWY_EXPORT(RunningCoefficients);

bool ComputeRunningCoefficients(const RunningParameters& parameters, size_t n, float* center,
                                float* scale, float* offset) {
  return HWY_DYNAMIC_DISPATCH(RunningCoefficients)(parameters, n, center, scale, offset);
}

}  // namespace normd
#endif  // HWY_ONCE
