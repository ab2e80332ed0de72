#include "core/kernels/moments.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/moments.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h:
#include "core/kernels/moments-inl.h"

#if HWY_ONCE
namespace normd {

HWY_EXPORT(ComputeMomentsForTarget);

void ComputeMoments(const float* x, const BatchExtents& extents, double* mean, double* m2) {
  ComputeMoments(x, extents, {0, extents.channels}, mean, m2);
}

void ComputeMoments(const float* x, const BatchExtents& extents, ChannelRange range, double* mean,
                    double* m2) {
  HWY_DYNAMIC_DISPATCH(ComputeMomentsForTarget)(x, Merged(extents), range, mean, m2);
}

}  // namespace normd
#endif  // HWY_ONCE
