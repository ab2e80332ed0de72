#include "core/kernels/backward.h"

#include "core/kernels/backward_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernels/backward.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h:
#include "core/kernels/backward-inl.h"

#if HWY_ONCE
namespace normd {

HWY_EXPORT(BackwardFloat32);
HWY_EXPORT(BackwardFloat64);
HWY_EXPORT(BackwardFloat16);
HWY_EXPORT(BackwardBfloat16);

namespace {

const BackwardKernels<float>& Kernels(ElementType<float> /*type*/) {
  return *HWY_DYNAMIC_DISPATCH(BackwardFloat32)();
}
const BackwardKernels<double>& Kernels(ElementType<double> /*type*/) {
  return *HWY_DYNAMIC_DISPATCH(BackwardFloat64)();
}
const BackwardKernels<Float16>& Kernels(ElementType<Float16> /*type*/) {
  return *HWY_DYNAMIC_DISPATCH(BackwardFloat16)();
}
const BackwardKernels<Bfloat16>& Kernels(ElementType<Bfloat16> /*type*/) {
  return *HWY_DYNAMIC_DISPATCH(BackwardBfloat16)();
}

}  // namespace

template <typename T>
void ComputeGradientSums(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                         const double* mean, double* sum, double* dot) {
  ComputeGradientSums(Values<T>(x), Values<T>(dy), extents, range, mean, sum, dot);
}

template <typename T>
void ComputeGradientSums(const Values<T>& x, const Values<T>& dy, const BatchExtents& extents,
                         ChannelRange range, const double* mean, double* sum, double* dot) {
  Kernels(ElementType<T>()).gradient_sums(x, dy, Merged(extents), range, mean, sum, dot);
}

template <typename T>
void ComputeInputGradient(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                          const GradientCoefficients<T>& coefficients, T* dx) {
  Kernels(ElementType<T>()).input_gradient(x, dy, Merged(extents), range, coefficients, dx);
}

template <typename T>
void ComputeRowGradientSums(const T* x, const T* dy, size_t rows, size_t columns,
                            const double* mean, const double* invstd, const ComputeType<T>* weight,
                            double* row_sum, double* row_dot, double* grad_weight,
                            double* grad_bias) {
  Kernels(ElementType<T>())
      .row_gradient_sums(x, dy, rows, columns, mean, invstd, weight, row_sum, row_dot, grad_weight,
                         grad_bias);
}

template <typename T>
void ComputeRowInputGradient(const T* x, const T* dy, size_t rows, size_t columns,
                             const GradientCoefficients<T>& coefficients,
                             const ComputeType<T>* weight, T* dx) {
  Kernels(ElementType<T>()).row_input_gradient(x, dy, rows, columns, coefficients, weight, dx);
}

#define NORMD_INSTANTIATE_BACKWARD(T)                                                          \
  template void ComputeGradientSums(const T*, const T*, const BatchExtents&, ChannelRange,     \
                                    const double*, double*, double*);                          \
  template void ComputeGradientSums(const Values<T>&, const Values<T>&, const BatchExtents&,   \
                                    ChannelRange, const double*, double*, double*);            \
  template void ComputeInputGradient(const T*, const T*, const BatchExtents&, ChannelRange,    \
                                     const GradientCoefficients<T>&, T*);                      \
  template void ComputeRowGradientSums(const T*, const T*, size_t, size_t, const double*,      \
                                       const double*, const ComputeType<T>*, double*, double*, \
                                       double*, double*);                                      \
  template void ComputeRowInputGradient(const T*, const T*, size_t, size_t,                    \
                                        const GradientCoefficients<T>&, const ComputeType<T>*, T*)

NORMD_INSTANTIATE_BACKWARD(float);
NORMD_INSTANTIATE_BACKWARD(double);
NORMD_INSTANTIATE_BACKWARD(Float16);
NORMD_INSTANTIATE_BACKWARD(Bfloat16);

#undef NORMD_INSTANTIATE_BACKWARD

}  // namespace normd
#endif  // HWY_ONCE
