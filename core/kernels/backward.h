#ifndef NORMD_CORE_KERNELS_BACKWARD_H_
#define NORMD_CORE_KERNELS_BACKWARD_H_

#include <cstddef>

#include "core/kernels/batch_extents.h"
#include "core/kernels/values.h"
#include "core/tensor/data_type.h"

// The gradient of a norm: sums over each channel or row, then one walk for the input's gradient.
// T: float, double, Float16, Bfloat16. x and dy (the gradient by the output) hold as many elements
// as the extents say, at any address; dx is aligned to its elements' size. Sums are in float64.
// Thread-safe.
namespace normd {

// Per channel of `range`: sum[c] = sum(dy) and dot[c] = sum(dy * (x - mean[c])); touches no other
// element of sum and dot. Not finite values stay in their channel.
// REQUIRES: mean, sum and dot hold `channels` doubles; range.first + range.count <= channels.
// Uses up to 64 KB of stack.
template <typename T>
void ComputeGradientSums(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                         const double* mean, double* sum, double* dot);

// The same for values that may lie anywhere. REQUIRES: x and dy are both runs or both readers.
template <typename T>
void ComputeGradientSums(const Values<T>& x, const Values<T>& dy, const BatchExtents& extents,
                         ChannelRange range, const double* mean, double* sum, double* dot);

// The coefficients of ComputeInputGradient, one of each a channel.
template <typename T>
struct GradientCoefficients {
  const ComputeType<T>* center = nullptr;
  const ComputeType<T>* of_dy = nullptr;
  const ComputeType<T>* of_x = nullptr;
  const ComputeType<T>* offset = nullptr;
};

// dx = dy * of_dy[c] + (x - center[c]) * of_x[c] + offset[c] for every value of a channel of
// `range`, in ComputeType<T>, rounded to nearest even; touches no other value of dx. Outputs of
// 16 MB and more bypass the cache unless dx is x or dy or is written in short pieces.
// REQUIRES: dx holds as many elements as x and is x, is dy, or overlaps neither; no coefficient
// overlaps dx. Uses up to 64 KB of stack.
template <typename T>
void ComputeInputGradient(const T* x, const T* dy, const BatchExtents& extents, ChannelRange range,
                          const GradientCoefficients<T>& coefficients, T* dx);

// Rows (layer norm and its like): `rows` rows of `columns` values, row-major, weighted by
// weight[columns] (null: 1).
//   row_sum[r] = sum over i of weight[i] dy
//   row_dot[r] = sum over i of weight[i] dy (x - mean[r])
//   grad_weight[i] += sum over r of dy (x - mean[r]) invstd[r]   (null: not wanted)
//   grad_bias[i] += sum over r of dy                             (null: not wanted)
// REQUIRES: mean, invstd, row_sum and row_dot hold `rows` doubles; grad_weight and grad_bias, where
// wanted, `columns` doubles, with the sums so far. Uses up to 64 KB of stack.
template <typename T>
void ComputeRowGradientSums(const T* x, const T* dy, size_t rows, size_t columns,
                            const double* mean, const double* invstd, const ComputeType<T>* weight,
                            double* row_sum, double* row_dot, double* grad_weight,
                            double* grad_bias);

// dx = dy * weight[i] * of_dy[r] + (x - center[r]) * of_x[r] + offset[r] for the value of row r and
// column i; weight null: 1. The coefficients are one a row. Else as ComputeInputGradient.
template <typename T>
void ComputeRowInputGradient(const T* x, const T* dy, size_t rows, size_t columns,
                             const GradientCoefficients<T>& coefficients,
                             const ComputeType<T>* weight, T* dx);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_BACKWARD_H_
