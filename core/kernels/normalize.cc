#include "core/kernels/normalize.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/normalize.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h:
#include "core/kernels/normalize-inl.h"

#if HWY_ONCE
namespace normd {

HWY_EXPORT(NormalizeForTarget);

void Normalize(const float* x, const BatchExtents& extents, const float* center, const float* scale,
               const float* offset, float* y) {
  Normalize(x, extents, {0, extents.channels}, center, scale, offset, y);
}

void Normalize(const float* x, const BatchExtents& extents, ChannelRange range, const float* center,
               const float* scale, const float* offset, float* y) {
  HWY_DYNAMIC_DISPATCH(NormalizeForTarget)
  (x, Merged(extents), range, center, scale, offset, y);
}

}  // namespace normd
#endif  // HWY_ONCE
