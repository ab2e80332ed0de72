#include "core/kernels/non_finite.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/non_finite.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h:
#include "core/kernels/non_finite-inl.h"

#if HWY_ONCE
namespace normd {

HWY_EXPORT(FindNonFiniteForTarget);

size_t FindNonFinite(const float* x, size_t n) {
  return HWY_DYNAMIC_DISPATCH(FindNonFiniteForTarget)(x, n);
}

}  // namespace normd
#endif  // HWY_ONCE
