#ifndef NORMD_CORE_KERNELS_NORMALIZE_COEFFICIENTS_H_
#define NORMD_CORE_KERNELS_NORMALIZE_COEFFICIENTS_H_

#include <cstddef>

namespace normd {

// What channels are normalized by: running statistics, or those of a batch.
struct NormalizeParameters {
  const double* mean = nullptr;
  const double* var = nullptr;
  double eps = 0;
  const double* weight = nullptr;  // null: 1
  const double* bias = nullptr;    // null: 0
};

// The coefficients by which Normalize computes (x - mean) / sqrt(var + eps) * weight + bias
// (batch_norm_cpu_transform_input of PyTorch's aten/src/ATen/native/Normalization.cpp): center is
// the mean in float32, scale is 1 / sqrt(var + eps) * weight, and offset is the bias less what the
// rounding of the center leaves of the mean times the scale; all in float64 until they are rounded.
// Whether float32 holds all of them to all their digits and x - center is finite for every finite
// x; what is not finite counts as held, since it is the same in every type.
// REQUIRES: every array holds n values, and none overlaps center, scale or offset. Thread-safe.
bool ComputeNormalizeCoefficients(const NormalizeParameters& parameters, size_t n, float* center,
                                  float* scale, float* offset);

}  // namespace normd

#endif  // NORMD_CORE_KERNELS_NORMALIZE_COEFFICIENTS_H_
