#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "core/norm/normalization.h"

namespace normd {
namespace {

constexpr int64_t kRankMax = 5;
constexpr int64_t kRowsRankMax = 128;

int64_t RankMin(NormKind kind) { return kind == NormKind::kInstanceNorm ? 3 : 2; }

absl::Status CheckRank(const TensorView& tensor, NormKind kind) {
  if (tensor.rank() >= RankMin(kind) && tensor.rank() <= kRankMax) return absl::OkStatus();
  return MakeError(
      Reason::kRankUnsupported,
      absl::StrCat("input has rank ", tensor.rank(), " (shape ", ShapeToString(tensor.shape()),
                   "), expected rank ", RankMin(kind), " to ", kRankMax),
      {{"field", "input.shape"}, {"actual", absl::StrCat(tensor.rank())}});
}

size_t Product(absl::Span<const int64_t> sizes) {
  size_t product = 1;
  for (const int64_t size : sizes) product *= static_cast<size_t>(size);
  return product;
}

}  // namespace

absl::StatusOr<Batch> Batch::Create(const TensorView& tensor, const NormConfig& config) {
  Batch batch;
  batch.kind_ = config.kind;
  batch.dtype_ = tensor.dtype();
  batch.bytes_ = tensor.bytes();
  const bool has_rows = config.kind == NormKind::kLayerNorm || config.kind == NormKind::kRmsNorm;
  NORMD_RETURN_IF_ERROR(has_rows ? batch.ReadRows(tensor, config)
                                 : batch.ReadChannels(tensor, config));
  return batch;
}

Batch Batch::Samples(size_t first, size_t count) const {
  Batch part = *this;
  part.first_value_ += first * channels_ * spatial_;
  part.samples_ = count;
  part.sets_ = count * sets_per_sample_;
  return part;
}

absl::Status Batch::ReadChannels(const TensorView& tensor, const NormConfig& config) {
  NORMD_RETURN_IF_ERROR(CheckRank(tensor, config.kind));
  channels_last_ = tensor.layout() == Layout::kChannelsLast;
  const absl::Span<const int64_t> shape = tensor.shape();
  const size_t channel_axis = channels_last_ ? shape.size() - 1 : 1;
  const int64_t channels = shape[channel_axis];
  if (channels != config.num_features) {
    return MakeError(
        Reason::kChannelCountMismatch,
        absl::StrCat("num_features is ", config.num_features, ", input has ", channels,
                     " channels (axis ", channel_axis, " of shape ", ShapeToString(shape), ")"),
        {{"field", "input.shape"},
         {"expected", absl::StrCat(config.num_features)},
         {"actual", absl::StrCat(channels)}});
  }
  channels_ = static_cast<size_t>(channels);
  // An empty tensor may have axes whose product alone would overflow.
  if (tensor.num_elements() != 0) {
    samples_ = static_cast<size_t>(shape[0]);
    spatial_ = static_cast<size_t>(tensor.num_elements()) / samples_ / channels_;
  }
  if (config.kind == NormKind::kBatchNorm) {
    sets_ = channels_;
    count_ = static_cast<int64_t>(samples_ * spatial_);
  } else {
    sets_per_sample_ =
        config.kind == NormKind::kGroupNorm ? static_cast<size_t>(config.num_groups) : channels_;
    sets_ = samples_ * sets_per_sample_;
    count_ = samples_ == 0 ? 0 : static_cast<int64_t>(channels_ / sets_per_sample_ * spatial_);
  }
  return absl::OkStatus();
}

absl::Status Batch::ReadRows(const TensorView& tensor, const NormConfig& config) {
  const absl::Span<const int64_t> shape = tensor.shape();
  const absl::Span<const int64_t> normalized = config.normalized_shape;
  if (tensor.rank() > kRowsRankMax) {
    return MakeError(
        Reason::kRankUnsupported,
        absl::StrCat("input has rank ", tensor.rank(), ", expected at most ", kRowsRankMax),
        {{"field", "input.shape"}, {"actual", absl::StrCat(tensor.rank())}});
  }
  const bool fits =
      shape.size() >= normalized.size() &&
      std::equal(normalized.begin(), normalized.end(), shape.end() - normalized.size());
  if (!fits) {
    return MakeError(
        Reason::kNormalizedShapeMismatch,
        absl::StrCat("normalized_shape is ", ShapeToString(normalized),
                     ", expected an input that ends in it, input has shape ", ShapeToString(shape)),
        {{"field", "input.shape"},
         {"expected", ShapeToString(normalized)},
         {"actual", ShapeToString(shape)}});
  }
  channels_ = Product(normalized);
  samples_ = static_cast<size_t>(tensor.num_elements()) / channels_;
  sets_per_sample_ = 1;
  sets_ = samples_;
  count_ = samples_ == 0 ? 0 : static_cast<int64_t>(channels_);
  return absl::OkStatus();
}

}  // namespace normd
