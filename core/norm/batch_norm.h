#ifndef NORMD_CORE_NORM_BATCH_NORM_H_
#define NORMD_CORE_NORM_BATCH_NORM_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/kernels/batch_extents.h"
#include "core/norm/moments.h"
#include "core/norm/norm_config.h"
#include "core/tensor/tensor_view.h"

namespace normd {

// A tensor that a batch norm of some config takes: float32, rank 2 to 5, C channels. A value that
// borrows the tensor's bytes.
class Batch {
 public:
  // Errors: DTYPE_NOT_IMPLEMENTED, RANK_UNSUPPORTED, CHANNEL_COUNT_MISMATCH.
  // REQUIRES: the tensor's bytes are aligned to its dtype.
  static absl::StatusOr<Batch> Create(const TensorView& tensor, const NormConfig& config);

  const BatchExtents& extents() const { return extents_; }
  // Values per channel: N x spatial.
  int64_t count() const { return static_cast<int64_t>(extents_.samples * extents_.spatial); }
  absl::Span<const float> values() const { return values_; }

 private:
  Batch(const BatchExtents& extents, absl::Span<const float> values)
      : extents_(extents), values_(values) {}

  BatchExtents extents_;
  absl::Span<const float> values_;
};

// The moments of `batch`; count 0 gives mean 0 and m2 0. Errors: NON_FINITE_VALUE (under
// NonFinitePolicy::kRefuse; metadata index: the first such value's place in the tensor).
absl::StatusOr<Moments> ComputeBatchMoments(const Batch& batch, NonFinitePolicy non_finite);

// What a batch is normalized by; every span is C long.
struct NormalizeBy {
  absl::Span<const double> mean;
  absl::Span<const double> var;
  double eps = 0;
  // Empty without affine.
  absl::Span<const float> weight;
  absl::Span<const float> bias;
  // True: a channel with var 0 under eps 0 gives `bias`, as PyTorch's training mode does
  // (aten/src/ATen/native/Normalization.cpp, InvStd). False: NaN, as its eval mode does.
  bool zero_var_gives_bias = false;
};

// output = (x - mean) / sqrt(var + eps) * weight + bias, in the layout of the batch.
// REQUIRES: output is as long as batch.values().
void NormalizeBatch(const Batch& batch, const NormalizeBy& by, absl::Span<float> output);

// Normalizes by the batch's own moments and biased variance m2 / count (training mode).
// REQUIRES: `moments` are of `batch` and count >= 1; output is as long as batch.values().
void NormalizeBatchByItself(const Batch& batch, const Moments& moments, double eps,
                            absl::Span<const float> weight, absl::Span<const float> bias,
                            absl::Span<float> output);

}  // namespace normd

#endif  // NORMD_CORE_NORM_BATCH_NORM_H_
