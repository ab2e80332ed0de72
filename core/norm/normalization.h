#ifndef NORMD_CORE_NORM_NORMALIZATION_H_
#define NORMD_CORE_NORM_NORMALIZATION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/parallel.h"
#include "core/norm/moments.h"
#include "core/norm/norm_config.h"
#include "core/tensor/tensor_bytes.h"
#include "core/tensor/tensor_view.h"

// Forward and backward of the whole norm family over tensors of any dtype. Statistics are float64;
// values are computed in float32 (float64 for float64 tensors). Large batches are spread over a
// ParallelRunner. Thread-safe.
namespace normd {

// A tensor that a norm of some config takes, and how its values form sets (see normd.v1.Moments). A
// value that borrows the tensor's bytes, which may be cut and aligned in any way; the results have
// the same bits. Of what is cut, some at a time goes through a block of memory that is used again:
// up to 256 KB, and of kinds whose sets lie within samples 16 Ki values or, where that is more, a
// set or, with the channel last, a sample.
class Batch {
 public:
  // Errors: RANK_UNSUPPORTED (kBatchNorm and kGroupNorm take rank 2 to 5, kInstanceNorm 3 to 5),
  // CHANNEL_COUNT_MISMATCH; kLayerNorm and kRmsNorm: NORMALIZED_SHAPE_MISMATCH, RANK_UNSUPPORTED
  // (rank 128 at most).
  static absl::StatusOr<Batch> Create(const TensorView& tensor, const NormConfig& config);

  NormKind kind() const { return kind_; }
  DataType dtype() const { return dtype_; }
  // Those of the whole tensor; the batch begins at its value first_value().
  const TensorBytes& bytes() const { return bytes_; }
  size_t first_value() const { return first_value_; }
  size_t num_elements() const { return samples_ * channels_ * spatial_; }

  // The samples [first, first + count) alone. REQUIRES: kind is not kBatchNorm.
  Batch Samples(size_t first, size_t count) const;

  // The batch as samples x channels x spatial values: sample by sample, in each channel by channel
  // or, with channels_last, position by position. kLayerNorm and kRmsNorm: a sample is a row, and
  // each of its values a channel.
  size_t samples() const { return samples_; }
  size_t channels() const { return channels_; }
  size_t spatial() const { return spatial_; }
  bool channels_last() const { return channels_last_; }

  // How many sets of values there are, and how many values are in each; 0 in an empty batch, but
  // for the sets of kBatchNorm.
  size_t sets() const { return sets_; }
  int64_t count() const { return count_; }
  // Sets in a sample; 0 for kBatchNorm, whose sets go through all samples.
  size_t sets_per_sample() const { return sets_per_sample_; }

 private:
  Batch() = default;

  absl::Status ReadChannels(const TensorView& tensor, const NormConfig& config);
  absl::Status ReadRows(const TensorView& tensor, const NormConfig& config);

  NormKind kind_ = NormKind::kBatchNorm;
  DataType dtype_ = DataType::kFloat32;
  TensorBytes bytes_;
  size_t first_value_ = 0;
  size_t samples_ = 0;
  size_t channels_ = 0;
  size_t spatial_ = 1;
  bool channels_last_ = false;
  size_t sets_ = 0;
  int64_t count_ = 0;
  size_t sets_per_sample_ = 0;
};

// What a batch is normalized by beside statistics.
struct Affine {
  double eps = 0;
  bool eps_of_dtype = false;  // eps is the machine epsilon of the batch's dtype
  // [C]; empty: 1 and 0.
  absl::Span<const double> weight;
  absl::Span<const double> bias;
};

// Running statistics as eval mode uses them; both C long.
struct Running {
  absl::Span<const double> mean;
  absl::Span<const double> var;
};

// The moments of every set of `batch`; an empty batch gives count 0 and zeros. Errors:
// NON_FINITE_VALUE (under NonFinitePolicy::kRefuse; metadata index: the first such value's place in
// the tensor; or a float64 batch whose moments are too large for float64).
absl::StatusOr<Moments> ComputeBatchMoments(const Batch& batch, NonFinitePolicy non_finite,
                                            ParallelRunner* runner);

// output = (x - running_mean) / sqrt(running_var + eps) * weight + bias. A channel with var 0 under
// eps 0 gives NaN, as PyTorch's eval mode does.
// REQUIRES: kind is kBatchNorm or kInstanceNorm; output is as long as the batch's bytes, aligned to
// its dtype, and does not overlap them, or is those bytes, in one run.
void NormalizeByRunning(const Batch& batch, const Running& running, const Affine& affine,
                        char* output, ParallelRunner* runner);

// What NormalizeByRunning makes of running statistics before it comes to the values, kept for other
// batches, of any dtype but kFloat64: with few rows it is most of the work. 12 bytes a channel. A
// value; thread-safe.
class RunningCoefficients {
 public:
  // Nothing where float32 does not hold all of them. REQUIRES: eps is not of the dtype.
  static std::optional<RunningCoefficients> Create(const Running& running, const Affine& affine);

  size_t channels() const { return numbers_.size() / 3; }
  // Each as long as there are channels, as the kernels take them (normalize_coefficients.h).
  const float* center() const { return numbers_.data(); }
  const float* scale() const { return center() + channels(); }
  const float* offset() const { return scale() + channels(); }

 private:
  RunningCoefficients() = default;

  std::vector<float> numbers_;
};

// The same bits as NormalizeByRunning of what `coefficients` were made of. REQUIRES: as there; the
// dtype is not kFloat64, and there are as many coefficients as channels.
void NormalizeByRunning(const Batch& batch, const RunningCoefficients& coefficients, char* output,
                        ParallelRunner* runner);

// Normalizes every set by its own moments and biased variance (training mode of kBatchNorm and
// kInstanceNorm, the only mode of the others). Under eps 0 a set with variance 0 gives `bias` for
// kBatchNorm and kInstanceNorm (aten/src/ATen/native/Normalization.cpp, InvStd), NaN for the
// others. REQUIRES: `moments` are of `batch`; output as above.
void NormalizeByItself(const Batch& batch, const Moments& moments, const Affine& affine,
                       char* output, ParallelRunner* runner);

// ComputeBatchMoments and NormalizeByItself in one walk, so that the second pass finds the values
// in the cache. Errors as ComputeBatchMoments; then output is unspecified.
absl::StatusOr<Moments> NormalizeAndComputeMoments(const Batch& batch, NonFinitePolicy non_finite,
                                                   const Affine& affine, char* output,
                                                   ParallelRunner* runner);

// The same where nobody wants the moments: they are computed and dropped some samples at a time, so
// that many small sets take little memory. output null: the values are only checked.
// REQUIRES: kind is not kBatchNorm, whose sets go through all samples.
absl::Status NormalizeBySamples(const Batch& batch, NonFinitePolicy non_finite,
                                const Affine& affine, char* output, ParallelRunner* runner);

// What a backward pass gives.
struct Gradients {
  std::vector<double> weight;  // [C]; empty without affine
  std::vector<double> bias;    // [C]; empty without affine and for kRmsNorm
};

// The gradients of NormalizeByItself for `grad_output`, a tensor of the batch's shape, dtype and
// layout. Per channel, with s = sum(dy), d = sum(dy (x - mean)): grad_bias = s, grad_weight =
// d invstd, dx = (dy - s/n - (x - mean) invstd^2 d/n) invstd w (Ioffe, Szegedy: Batch
// Normalization, section 3; torch/csrc/autograd/FunctionsManual.cpp, batchnorm_double_backward's
// first order). grad_input null: not wanted. `wants_parameters`: fill the result. REQUIRES:
// `moments` are of `batch`; grad_output and grad_input are as long as the batch's bytes, and
// grad_output may be cut as they may; grad_input is aligned to the dtype and overlaps neither.
Gradients BackwardByItself(const Batch& batch, const TensorBytes& grad_output,
                           const Moments& moments, const Affine& affine, bool wants_parameters,
                           char* grad_input, ParallelRunner* runner);

// The gradients of NormalizeByRunning: dx = dy invstd w. REQUIRES: as NormalizeByRunning and
// BackwardByItself.
Gradients BackwardByRunning(const Batch& batch, const TensorBytes& grad_output,
                            const Running& running, const Affine& affine, bool wants_parameters,
                            char* grad_input, ParallelRunner* runner);

}  // namespace normd

#endif  // NORMD_CORE_NORM_NORMALIZATION_H_
