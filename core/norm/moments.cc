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

// Whether a batch of finite float32 values can have these moments. Larger ones, though finite,
// would take the running statistics to infinity.
bool IsOfFiniteFloats(int64_t count, double mean, double m2) {
  constexpr double kMax = std::numeric_limits<float>::max();
  return std::abs(mean) <= kMax &&
         m2 <= kMax * kMax * static_cast<double>(std::max<int64_t>(count, 1));
}

}  // namespace

absl::Status CheckMoments(const Moments& moments, const NormConfig& config) {
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
        !IsOfFiniteFloats(moments.count, moments.mean[c], moments.m2[c])) {
      return MakeError(
          Reason::kNonFiniteValue,
          absl::StrCat("moments at channel ", c, " are mean ", moments.mean[c], " and m2 ",
                       moments.m2[c], ", expected those of finite float32 values"),
          {{"field", "moments"}, {"index", absl::StrCat(c)}});
    }
  }
  return absl::OkStatus();
}

absl::Status CheckValuesPerChannel(int64_t count) {
  if (count != 1) return absl::OkStatus();
  return MakeError(Reason::kOneValuePerChannel,
                   "Expected more than 1 value per channel when training, got 1",
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
  into.count += from.count;
}

}  // namespace normd
