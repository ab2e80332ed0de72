#include "core/kernels/normalize.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/normalize.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h:
#include "core/kernels/normalize-inl.h"

#if HWY_ONCE
namespace normd {

HWY_EXPORT(kNormalizeFloat32);
HWY_EXPORT(kNormalizeFloat64);
HWY_EXPORT(kNormalizeFloat16);
HWY_EXPORT(kNormalizeBfloat16);
HWY_EXPORT(kNormalizeRowsFloat32);
HWY_EXPORT(kNormalizeRowsFloat64);
HWY_EXPORT(kNormalizeRowsFloat16);
HWY_EXPORT(kNormalizeRowsBfloat16);

namespace {

auto Chosen(ElementType<float> /*type*/) { return HWY_DYNAMIC_DISPATCH(kNormalizeFloat32); }
auto Chosen(ElementType<double> /*type*/) { return HWY_DYNAMIC_DISPATCH(kNormalizeFloat64); }
auto Chosen(ElementType<Float16> /*type*/) { return HWY_DYNAMIC_DISPATCH(kNormalizeFloat16); }
auto Chosen(ElementType<Bfloat16> /*type*/) { return HWY_DYNAMIC_DISPATCH(kNormalizeBfloat16); }

auto ChosenRows(ElementType<float> /*type*/) { return HWY_DYNAMIC_DISPATCH(kNormalizeRowsFloat32); }
auto ChosenRows(ElementType<double> /*type*/) {
  return HWY_DYNAMIC_DISPATCH(kNormalizeRowsFloat64);
}
auto ChosenRows(ElementType<Float16> /*type*/) {
  return HWY_DYNAMIC_DISPATCH(kNormalizeRowsFloat16);
}
auto ChosenRows(ElementType<Bfloat16> /*type*/) {
  return HWY_DYNAMIC_DISPATCH(kNormalizeRowsBfloat16);
}

}  // namespace

template <typename T>
void Normalize(const T* x, const BatchExtents& extents, const ComputeType<T>* center,
               const ComputeType<T>* scale, const ComputeType<T>* offset, T* y) {
  Normalize(x, extents, {0, extents.channels}, center, scale, offset, y);
}

template <typename T>
void Normalize(const T* x, const BatchExtents& extents, ChannelRange range,
               const ComputeType<T>* center, const ComputeType<T>* scale,
               const ComputeType<T>* offset, T* y) {
  Chosen(ElementType<T>())(x, Merged(extents), range, center, scale, offset, y);
}

template <typename T>
void NormalizeRows(const T* x, size_t rows, size_t columns, const RowCoefficients<T>& coefficients,
                   T* y) {
  ChosenRows(ElementType<T>())(x, rows, columns, coefficients, y);
}

template void Normalize(const float*, const BatchExtents&, const float*, const float*, const float*,
                        float*);
template void Normalize(const double*, const BatchExtents&, const double*, const double*,
                        const double*, double*);
template void Normalize(const Float16*, const BatchExtents&, const float*, const float*,
                        const float*, Float16*);
template void Normalize(const Bfloat16*, const BatchExtents&, const float*, const float*,
                        const float*, Bfloat16*);
template void Normalize(const float*, const BatchExtents&, ChannelRange, const float*, const float*,
                        const float*, float*);
template void Normalize(const double*, const BatchExtents&, ChannelRange, const double*,
                        const double*, const double*, double*);
template void Normalize(const Float16*, const BatchExtents&, ChannelRange, const float*,
                        const float*, const float*, Float16*);
template void Normalize(const Bfloat16*, const BatchExtents&, ChannelRange, const float*,
                        const float*, const float*, Bfloat16*);
template void NormalizeRows(const float*, size_t, size_t, const RowCoefficients<float>&, float*);
template void NormalizeRows(const double*, size_t, size_t, const RowCoefficients<double>&, double*);
template void NormalizeRows(const Float16*, size_t, size_t, const RowCoefficients<Float16>&,
                            Float16*);
template void NormalizeRows(const Bfloat16*, size_t, size_t, const RowCoefficients<Bfloat16>&,
                            Bfloat16*);

}  // namespace normd
#endif  // HWY_ONCE
