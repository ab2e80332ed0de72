#include "core/norm/batch_norm.h"

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/kernels/moments.h"
#include "core/kernels/non_finite.h"
#include "core/kernels/normalize.h"

namespace normd {
namespace {

constexpr int64_t kRankMin = 2;
constexpr int64_t kRankMax = 5;

absl::Status CheckFinite(const Batch& batch, const Moments& moments) {
  bool finite = true;
  for (size_t c = 0; c < moments.mean.size(); ++c) {
    finite = finite && std::isfinite(moments.mean[c]) && std::isfinite(moments.m2[c]);
  }
  if (finite) return absl::OkStatus();
  const absl::Span<const float> values = batch.values();
  const size_t index = FindNonFinite(values.data(), values.size());
  return MakeError(Reason::kNonFiniteValue,
                   absl::StrCat("input is ", values[index], " at index ", index,
                                " (row-major), expected finite values"),
                   {{"field", "input"}, {"index", absl::StrCat(index)}});
}

}  // namespace

absl::StatusOr<Batch> Batch::Create(const TensorView& tensor, const NormConfig& config) {
  if (tensor.dtype() != DataType::kFloat32) {
    return MakeError(Reason::kDtypeNotImplemented,
                     absl::StrCat("input has dtype ", DataTypeName(tensor.dtype()),
                                  ", which is not implemented, expected FLOAT32"),
                     {{"field", "input.dtype"}});
  }
  if (tensor.rank() < kRankMin || tensor.rank() > kRankMax) {
    return MakeError(
        Reason::kRankUnsupported,
        absl::StrCat("input has rank ", tensor.rank(), " (shape ", ShapeToString(tensor.shape()),
                     "), expected rank ", kRankMin, " to ", kRankMax),
        {{"field", "input.shape"}, {"actual", absl::StrCat(tensor.rank())}});
  }
  const bool channels_last = tensor.layout() == Layout::kChannelsLast;
  const size_t channel_axis = channels_last ? tensor.shape().size() - 1 : 1;
  const int64_t channels = tensor.shape()[channel_axis];
  if (channels != config.num_features) {
    return MakeError(Reason::kChannelCountMismatch,
                     absl::StrCat("num_features is ", config.num_features, ", input has ", channels,
                                  " channels (axis ", channel_axis, " of shape ",
                                  ShapeToString(tensor.shape()), ")"),
                     {{"field", "input.shape"},
                      {"expected", absl::StrCat(config.num_features)},
                      {"actual", absl::StrCat(channels)}});
  }
  BatchExtents extents = {.samples = static_cast<size_t>(tensor.shape()[0]),
                          .channels = static_cast<size_t>(channels),
                          .spatial = 1};
  // An empty tensor may have axes whose product alone would overflow.
  if (tensor.num_elements() == 0) {
    extents.samples = 0;
  } else {
    for (size_t axis = 1; axis < tensor.shape().size(); ++axis) {
      if (axis == channel_axis) continue;
      (channels_last ? extents.samples : extents.spatial) *=
          static_cast<size_t>(tensor.shape()[axis]);
    }
  }
  return Batch(extents, absl::MakeConstSpan(reinterpret_cast<const float*>(tensor.data().data()),
                                            static_cast<size_t>(tensor.num_elements())));
}

absl::StatusOr<Moments> ComputeBatchMoments(const Batch& batch, NonFinitePolicy non_finite) {
  const size_t channels = batch.extents().channels;
  Moments moments = {.count = batch.count(),
                     .mean = std::vector<double>(channels, 0.0),
                     .m2 = std::vector<double>(channels, 0.0)};
  if (moments.count == 0) return moments;
  ComputeMoments(batch.values().data(), batch.extents(), moments.mean.data(), moments.m2.data());
  if (non_finite == NonFinitePolicy::kRefuse) {
    if (absl::Status status = CheckFinite(batch, moments); !status.ok()) return status;
  }
  return moments;
}

void NormalizeBatch(const Batch& batch, const NormalizeBy& by, absl::Span<float> output) {
  const size_t channels = batch.extents().channels;
  if (batch.values().empty()) return;
  std::vector<float> factors(3 * channels);
  const absl::Span<float> center = absl::MakeSpan(factors).subspan(0, channels);
  const absl::Span<float> scale = absl::MakeSpan(factors).subspan(channels, channels);
  const absl::Span<float> offset = absl::MakeSpan(factors).subspan(2 * channels, channels);
  for (size_t c = 0; c < channels; ++c) {
    const double shifted_var = by.var[c] + by.eps;
    const double invstd =
        by.zero_var_gives_bias && shifted_var == 0 ? 0.0 : 1.0 / std::sqrt(shifted_var);
    const double weight = by.weight.empty() ? 1.0 : by.weight[c];
    const double bias = by.bias.empty() ? 0.0 : by.bias[c];
    center[c] = static_cast<float>(by.mean[c]);
    scale[c] = static_cast<float>(invstd * weight);
    // The part of the mean that float32 cannot hold goes into the offset.
    offset[c] = static_cast<float>(bias - (by.mean[c] - center[c]) * (invstd * weight));
  }
  Normalize(batch.values().data(), batch.extents(), center.data(), scale.data(), offset.data(),
            output.data());
}

void NormalizeBatchByItself(const Batch& batch, const Moments& moments, double eps,
                            absl::Span<const float> weight, absl::Span<const float> bias,
                            absl::Span<float> output) {
  std::vector<double> biased_var(moments.m2);
  for (double& var : biased_var) var /= static_cast<double>(moments.count);
  NormalizeBatch(batch,
                 {.mean = moments.mean,
                  .var = biased_var,
                  .eps = eps,
                  .weight = weight,
                  .bias = bias,
                  .zero_var_gives_bias = true},
                 output);
}

}  // namespace normd
