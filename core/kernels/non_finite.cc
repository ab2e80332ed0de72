#include "core/kernels/non_finite.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/non_finite.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h:
#include "core/kernels/non_finite-inl.h"

#if HWY_ONCE
namespace normd {

HWY_EXPORT(kFindNonFiniteFloat32);
HWY_EXPORT(kFindNonFiniteFloat64);
HWY_EXPORT(kFindNonFiniteFloat16);
HWY_EXPORT(kFindNonFiniteBfloat16);

namespace {

auto Chosen(ElementType<float> /*type*/) { return HWY_DYNAMIC_DISPATCH(kFindNonFiniteFloat32); }
auto Chosen(ElementType<double> /*type*/) { return HWY_DYNAMIC_DISPATCH(kFindNonFiniteFloat64); }
auto Chosen(ElementType<Float16> /*type*/) { return HWY_DYNAMIC_DISPATCH(kFindNonFiniteFloat16); }
auto Chosen(ElementType<Bfloat16> /*type*/) { return HWY_DYNAMIC_DISPATCH(kFindNonFiniteBfloat16); }

}  // namespace

template <typename T>
size_t FindNonFinite(const T* x, size_t n) {
  return Chosen(ElementType<T>())(x, n);
}

template size_t FindNonFinite(const float*, size_t);
template size_t FindNonFinite(const double*, size_t);
template size_t FindNonFinite(const Float16*, size_t);
template size_t FindNonFinite(const Bfloat16*, size_t);

}  // namespace normd
#endif  // HWY_ONCE
