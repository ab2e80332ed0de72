#ifndef NORMD_CORE_KERNELS_BACKWARD_PLAN_H_
#define NORMD_CORE_KERNELS_BACKWARD_PLAN_H_

#include <cstddef>

#include "core/kernels/backward.h"
#include "core/kernels/batch_extents.h"
#include "core/kernels/moments_plan.h"
#include "core/kernels/normalize_plan.h"
#include "core/kernels/values.h"
#include "core/tensor/data_type.h"

// How the backward kernels cut their work; the same on every SIMD target. Sums are cut as moments
// are and the input's gradient as normalize is, but for what follows.
namespace normd {

// Columns of a batch: their means and sums fit in 24 KB, beside the rows of x and dy.
inline constexpr size_t kGradientColumnsMax = 1024;
static_assert(kGradientColumnsMax >= kColumnsMax / 2, "rows walked as one must fit");

// Columns of a row: the sums of both gradients fit in 16 KB.
inline constexpr size_t kRowTileColumns = 1024;
static_assert(kRowTileColumns % kLanesMax == 0);

// Rows walked together, so that the sums of columns are loaded and stored once for all of them.
// Their own sums then just fit in 16 registers. The kernel is written for this number.
inline constexpr size_t kRowsAtOnce = 4;

// The kernels of one SIMD target for elements T, as backward.h describes them. The extents of
// channels are Merged.
template <typename T>
struct BackwardKernels {
  void (*gradient_sums)(const Values<T>& x, const Values<T>& dy, const BatchExtents& extents,
                        ChannelRange range, const double* mean, double* sum, double* dot);
  void (*input_gradient)(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                         const GradientCoefficients<T>& coefficients, T* dx);
  void (*row_gradient_sums)(const T* x, const T* dy, size_t rows, size_t columns,
                            const double* mean, const double* invstd, const ComputeType<T>* weight,
                            double* row_sum, double* row_dot, double* grad_weight,
                            double* grad_bias);
  void (*row_input_gradient)(const T* x, const T* dy, size_t rows, size_t columns,
                             const GradientCoefficients<T>& coefficients,
                             const ComputeType<T>* weight, T* dx);
};

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_BACKWARD_PLAN_H_
