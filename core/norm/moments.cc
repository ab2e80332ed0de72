#include "core/norm/moments.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"

namespace normd {
namespace {

absl::Status CheckLength(absl::string_view field, size_t length, int64_t num_features) {
  if (static_cast<int64_t>(length) == num_features) return absl::OkStatus();
  return MakeError(
      Reason::kMomentsLengthMismatch,
      absl::StrCat("num_features is ", num_features, ", ", field, " has ", length, " values"),
      {{"field", field},
       {"expected", absl::StrCat(num_features)},
       {"actual", absl::StrCat(length)}});
}

// Whether running statistics stay finite under any number of such batches. Written so that NaN and
// infinity are not.
bool KeepsStatisticsFinite(int64_t count, double mean, double m2) {
  constexpr double kMeanMax = 1e150;
  constexpr double kVarMax = 1e300;
  return std::abs(mean) <= kMeanMax &&
         m2 / static_cast<double>(std::max<int64_t>(count, 1)) <= kVarMax;
}

}  // namespace

Moments PerChannel(Moments moments, const NormConfig& config) {
  if (config.kind != NormKind::kInstanceNorm) return moments;
  const auto channels = static_cast<size_t>(config.num_features);
  const size_t sets = moments.mean.size();
  if (sets != moments.m2.size() || sets % channels != 0 || sets == channels) return moments;
  if (sets == 0 && moments.count != 0) return moments;
  const size_t samples = sets / channels;
  Moments result = {.count = moments.count,
                    .mean = std::vector<double>(channels, 0.0),
                    .m2 = std::vector<double>(channels, 0.0)};
  if (samples == 0) return result;
  for (size_t c = 0; c < channels; ++c) {
    double mean_sum = 0;
    double m2_sum = 0;
    double m2_negative = 0;
    for (size_t set = c; set < sets; set += channels) {
      mean_sum += moments.mean[set];
      m2_sum += moments.m2[set];
      if (moments.m2[set] < 0) m2_negative = moments.m2[set];
    }
    result.mean[c] = mean_sum / static_cast<double>(samples);
    result.m2[c] = m2_negative < 0 ? m2_negative : m2_sum / static_cast<double>(samples);
  }
  return result;
}

absl::Status CheckMoments(const Moments& moments, const NormConfig& config) {
  if (config.kind != NormKind::kBatchNorm && config.kind != NormKind::kInstanceNorm) {
    return MakeError(Reason::kMomentsNotPossible,
                     absl::StrCat("kind ", NormKindName(config.kind),
                                  " folds no moments, expected BATCH_NORM or INSTANCE_NORM"),
                     {{"field", "moments"}, {"kind", NormKindName(config.kind)}});
  }
  if (moments.count < 0) {
    return MakeError(Reason::kMomentsCountNegative,
                     absl::StrCat("moments.count is ", moments.count, ", expected >= 0"),
                     {{"field", "moments.count"}});
  }
  for (const auto& [field, values] :
       {std::pair("moments.mean", &moments.mean), std::pair("moments.m2", &moments.m2)}) {
    if (absl::Status status = CheckLength(field, values->size(), config.num_features);
        !status.ok()) {
      return status;
    }
  }
  for (size_t c = 0; c < moments.mean.size(); ++c) {
    if (moments.m2[c] < 0) {
      return MakeError(
          Reason::kMomentsM2Negative,
          absl::StrCat("moments.m2 is ", moments.m2[c], " at channel ", c, ", expected >= 0"),
          {{"field", "moments.m2"}, {"index", absl::StrCat(c)}});
    }
    if (config.non_finite == NonFinitePolicy::kRefuse &&
        !KeepsStatisticsFinite(moments.count, moments.mean[c], moments.m2[c])) {
      return MakeError(Reason::kNonFiniteValue,
                       absl::StrCat("moments at channel ", c, " are mean ", moments.mean[c],
                                    " and m2 ", moments.m2[c], " of ", moments.count,
                                    " values, expected |mean| <= 1e150 and m2 / count <= 1e300"),
                       {{"field", "moments"}, {"index", absl::StrCat(c)}});
    }
  }
  return absl::OkStatus();
}

absl::Status CheckValuesPerSet(int64_t count, NormKind kind, int64_t samples) {
  if (count != 1) return absl::OkStatus();
  absl::string_view what;
  switch (kind) {
    case NormKind::kLayerNorm:
    case NormKind::kRmsNorm:
      return absl::OkStatus();
    case NormKind::kGroupNorm:
      if (samples > 1) return absl::OkStatus();
      what = "value per channel";
      break;
    case NormKind::kBatchNorm:
      what = "value per channel";
      break;
    case NormKind::kInstanceNorm:
      what = "spatial element";
      break;
  }
  return MakeError(Reason::kOneValuePerChannel,
                   absl::StrCat("Expected more than 1 ", what, " when training, got 1"),
                   {{"expected", "more than 1"}, {"actual", "1"}});
}

void Merge(const Moments& from, Moments& into) {
  if (from.count == 0) return;
  if (into.count == 0) {
    into = from;
    return;
  }
  const double from_count = static_cast<double>(from.count);
  const double into_count = static_cast<double>(into.count);
  const double count = from_count + into_count;
  for (size_t c = 0; c < into.mean.size(); ++c) {
    const double delta = from.mean[c] - into.mean[c];
    into.mean[c] += delta * (from_count / count);
    into.m2[c] += from.m2[c] + delta * delta * (from_count * into_count / count);
  }
  into.count = SaturatingSum(from.count, into.count);
}

int64_t SaturatingSum(int64_t a, int64_t b) {
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  return a > kMax - b ? kMax : a + b;
}

}  // namespace normd
