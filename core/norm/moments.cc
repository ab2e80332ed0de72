#include "core/norm/moments.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"

namespace normd {
namespace {

absl::Status LengthMismatch(absl::string_view message, absl::string_view field,
                            absl::string_view expected, int64_t actual) {
  return MakeError(Reason::kMomentsLengthMismatch, message,
                   {{"field", field}, {"expected", expected}, {"actual", absl::StrCat(actual)}});
}

// Means and m2 as many as `sets`, of which there are so many because of `why`.
absl::Status CheckLengths(const Moments& moments, absl::string_view why, int64_t sets) {
  for (const auto& [field, values] :
       {std::pair("moments.mean", &moments.mean), std::pair("moments.m2", &moments.m2)}) {
    const auto length = static_cast<int64_t>(values->size());
    if (length == sets) continue;
    return LengthMismatch(absl::StrCat(why, " ", sets, ", ", field, " has ", length, " values"),
                          field, absl::StrCat(sets), length);
  }
  return absl::OkStatus();
}

absl::Status CheckCount(int64_t count) {
  if (count >= 0) return absl::OkStatus();
  return MakeError(Reason::kMomentsCountNegative,
                   absl::StrCat("moments.count is ", count, ", expected >= 0"),
                   {{"field", "moments.count"}});
}

absl::Status CheckFolds(NormKind kind) {
  if (CanTrackRunningStats(kind)) return absl::OkStatus();
  return MakeError(Reason::kMomentsNotPossible,
                   absl::StrCat("kind ", NormKindName(kind),
                                " folds no moments, expected BATCH_NORM or INSTANCE_NORM"),
                   {{"field", "moments"}, {"kind", NormKindName(kind)}});
}

// Whether running statistics stay finite under any number of such batches. Written so that NaN and
// infinity are not.
bool KeepsStatisticsFinite(int64_t count, double mean, double m2) {
  constexpr double kMeanMax = 1e150;
  constexpr double kVarMax = 1e300;
  return std::abs(mean) <= kMeanMax &&
         m2 / static_cast<double>(std::max<int64_t>(count, 1)) <= kVarMax;
}

// The values of every set. `set_name` is what a set is in errors.
absl::Status CheckValues(const Moments& moments, absl::string_view set_name,
                         NonFinitePolicy non_finite) {
  for (size_t set = 0; set < moments.mean.size(); ++set) {
    if (moments.m2[set] < 0) {
      return MakeError(Reason::kMomentsM2Negative,
                       absl::StrCat("moments.m2 is ", moments.m2[set], " at ", set_name, " ", set,
                                    ", expected >= 0"),
                       {{"field", "moments.m2"}, {"index", absl::StrCat(set)}});
    }
    if (non_finite == NonFinitePolicy::kRefuse &&
        !KeepsStatisticsFinite(moments.count, moments.mean[set], moments.m2[set])) {
      return MakeError(
          Reason::kNonFiniteValue,
          absl::StrCat("moments at ", set_name, " ", set, " are mean ", moments.mean[set],
                       " and m2 ", moments.m2[set], " of ", moments.count,
                       " values, expected |mean| <= 1e150 and m2 / count <= 1e300"),
          {{"field", "moments"}, {"index", absl::StrCat(set)}});
    }
    if (moments.count == 0 && moments.m2[set] != 0) {
      const std::string actual = absl::StrCat(moments.m2[set]);
      return MakeError(Reason::kMomentsLengthMismatch,
                       absl::StrCat("moments.m2 is ", actual, " at ", set_name, " ", set,
                                    ", expected 0: moments.count is 0"),
                       {{"field", "moments.m2"},
                        {"index", absl::StrCat(set)},
                        {"expected", "0"},
                        {"actual", actual}});
    }
  }
  return absl::OkStatus();
}

}  // namespace

Moments PerChannel(Moments moments, const NormConfig& config) {
  if (config.kind != NormKind::kInstanceNorm) return moments;
  const auto channels = static_cast<size_t>(config.num_features);
  const size_t sets = moments.mean.size();
  if (sets == channels) return moments;
  Moments result = {.count = moments.count,
                    .mean = std::vector<double>(channels, 0.0),
                    .m2 = std::vector<double>(channels, 0.0)};
  if (sets == 0) return result;
  for (size_t set = 0; set < sets; ++set) {
    result.mean[set % channels] += moments.mean[set];
    result.m2[set % channels] += moments.m2[set];
  }
  const size_t samples = sets / channels;
  for (size_t c = 0; c < channels; ++c) {
    result.mean[c] /= static_cast<double>(samples);
    result.m2[c] /= static_cast<double>(samples);
  }
  return result;
}

absl::Status CheckBatchMoments(const Moments& moments, const NormConfig& config) {
  if (config.kind != NormKind::kInstanceNorm) return CheckMoments(moments, config);
  NORMD_RETURN_IF_ERROR(CheckCount(moments.count));
  const auto sets = static_cast<int64_t>(moments.mean.size());
  if (sets % config.num_features != 0 || (sets == 0 && moments.count != 0)) {
    return LengthMismatch(
        absl::StrCat("num_features is ", config.num_features, ", moments.mean has ", sets,
                     " values, expected a multiple of ", config.num_features),
        "moments.mean", absl::StrCat("a multiple of ", config.num_features), sets);
  }
  NORMD_RETURN_IF_ERROR(CheckLengths(moments, "the values of moments.mean are", sets));
  return CheckValues(moments, "set", config.non_finite);
}

absl::Status CheckMoments(const Moments& moments, const NormConfig& config) {
  NORMD_RETURN_IF_ERROR(CheckFolds(config.kind));
  NORMD_RETURN_IF_ERROR(CheckCount(moments.count));
  NORMD_RETURN_IF_ERROR(CheckLengths(moments, "num_features is", config.num_features));
  return CheckValues(moments, "channel", config.non_finite);
}

absl::Status CheckSavedMoments(const Moments& saved, int64_t sets, int64_t count,
                               NonFinitePolicy non_finite) {
  NORMD_RETURN_IF_ERROR(CheckCount(saved.count));
  if (saved.count != count) {
    return LengthMismatch(
        absl::StrCat("the input's values per set are ", count, ", moments.count is ", saved.count),
        "moments.count", absl::StrCat(count), saved.count);
  }
  NORMD_RETURN_IF_ERROR(CheckLengths(saved, "the input's sets are", sets));
  return CheckValues(saved, "set", non_finite);
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
