#include "server/data_batch.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"

namespace normd {
namespace {

absl::Status LengthMismatch(absl::string_view field, absl::string_view expected_what,
                            int64_t expected, int64_t actual) {
  return MakeError(
      Reason::kMomentsLengthMismatch,
      absl::StrCat(expected_what, " ", expected, ", ", field, " has ", actual),
      {{"field", field}, {"expected", absl::StrCat(expected)}, {"actual", absl::StrCat(actual)}});
}

absl::Status CheckM2NotNegative(const std::vector<double>& m2) {
  for (size_t set = 0; set < m2.size(); ++set) {
    if (m2[set] < 0) {
      return MakeError(Reason::kMomentsM2Negative,
                       absl::StrCat("moments.m2 is ", m2[set], " in set ", set, ", expected >= 0"),
                       {{"field", "moments.m2"}, {"index", absl::StrCat(set)}});
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFinite(const Moments& moments) {
  for (size_t set = 0; set < moments.mean.size(); ++set) {
    if (!std::isfinite(moments.mean[set]) || !std::isfinite(moments.m2[set])) {
      return MakeError(Reason::kNonFiniteValue,
                       absl::StrCat("moments of set ", set, " are mean ", moments.mean[set],
                                    " and m2 ", moments.m2[set], ", expected finite values"),
                       {{"field", "moments"}, {"index", absl::StrCat(set)}});
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckHasVariance(const Batch& batch) {
  return CheckValuesPerSet(batch.count(), batch.kind(), static_cast<int64_t>(batch.samples()));
}

Affine AffineOf(const NormState& state) {
  return {.eps = state.config.eps,
          .eps_of_dtype = state.config.eps_of_dtype,
          .weight = state.weight,
          .bias = state.bias};
}

Running RunningOf(const NormState& state) {
  return {.mean = state.running_stats->mean, .var = state.running_stats->var};
}

absl::Status CheckSavedMoments(const Moments& saved, const Batch& batch, const NormConfig& config) {
  if (saved.count < 0) {
    return MakeError(Reason::kMomentsCountNegative,
                     absl::StrCat("moments.count is ", saved.count, ", expected >= 0"),
                     {{"field", "moments.count"}});
  }
  if (saved.count != batch.count()) {
    return LengthMismatch("moments.count", "the input's values per set are", batch.count(),
                          saved.count);
  }
  const auto sets = static_cast<int64_t>(batch.sets());
  for (const auto& [field, values] :
       {std::pair("moments.mean", &saved.mean), std::pair("moments.m2", &saved.m2)}) {
    if (static_cast<int64_t>(values->size()) != sets) {
      return LengthMismatch(field, "the input's sets are", sets,
                            static_cast<int64_t>(values->size()));
    }
  }
  NORMD_RETURN_IF_ERROR(CheckM2NotNegative(saved.m2));
  if (config.non_finite == NonFinitePolicy::kRefuse) NORMD_RETURN_IF_ERROR(CheckFinite(saved));
  return absl::OkStatus();
}

}  // namespace normd
