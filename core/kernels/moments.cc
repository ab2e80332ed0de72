#include "core/kernels/moments.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/moments.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h:
#include "core/kernels/moments-inl.h"

#if HWY_ONCE
namespace normd {

HWY_EXPORT(kMomentsOfFloat32);
HWY_EXPORT(kMomentsOfFloat64);
HWY_EXPORT(kMomentsOfFloat16);
HWY_EXPORT(kMomentsOfBfloat16);

namespace {

auto Chosen(ElementType<float> /*type*/) { return HWY_DYNAMIC_DISPATCH(kMomentsOfFloat32); }
auto Chosen(ElementType<double> /*type*/) { return HWY_DYNAMIC_DISPATCH(kMomentsOfFloat64); }
auto Chosen(ElementType<Float16> /*type*/) { return HWY_DYNAMIC_DISPATCH(kMomentsOfFloat16); }
auto Chosen(ElementType<Bfloat16> /*type*/) { return HWY_DYNAMIC_DISPATCH(kMomentsOfBfloat16); }

}  // namespace

template <typename T>
void ComputeMoments(const T* x, const BatchExtents& extents, double* mean, double* m2) {
  ComputeMoments(x, extents, {0, extents.channels}, mean, m2);
}

template <typename T>
void ComputeMoments(const T* x, const BatchExtents& extents, ChannelRange range, double* mean,
                    double* m2) {
  ComputeMoments(Values<T>(x), extents, range, mean, m2);
}

template <typename T>
void ComputeMoments(const Values<T>& x, const BatchExtents& extents, ChannelRange range,
                    double* mean, double* m2) {
  Chosen(ElementType<T>())(x, Merged(extents), range, mean, m2);
}

template void ComputeMoments(const float*, const BatchExtents&, double*, double*);
template void ComputeMoments(const double*, const BatchExtents&, double*, double*);
template void ComputeMoments(const Float16*, const BatchExtents&, double*, double*);
template void ComputeMoments(const Bfloat16*, const BatchExtents&, double*, double*);
template void ComputeMoments(const float*, const BatchExtents&, ChannelRange, double*, double*);
template void ComputeMoments(const double*, const BatchExtents&, ChannelRange, double*, double*);
template void ComputeMoments(const Float16*, const BatchExtents&, ChannelRange, double*, double*);
template void ComputeMoments(const Bfloat16*, const BatchExtents&, ChannelRange, double*, double*);
template void ComputeMoments(const Values<float>&, const BatchExtents&, ChannelRange, double*,
                             double*);
template void ComputeMoments(const Values<double>&, const BatchExtents&, ChannelRange, double*,
                             double*);
template void ComputeMoments(const Values<Float16>&, const BatchExtents&, ChannelRange, double*,
                             double*);
template void ComputeMoments(const Values<Bfloat16>&, const BatchExtents&, ChannelRange, double*,
                             double*);

}  // namespace normd
#endif  // HWY_ONCE
