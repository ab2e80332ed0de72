#include "core/norm/norm_config.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/limits.h"

namespace normd {
namespace {

absl::string_view KindName(NormKind kind) {
  switch (kind) {
    case NormKind::kBatchNorm:
      return "BATCH_NORM";
    case NormKind::kLayerNorm:
      return "LAYER_NORM";
    case NormKind::kGroupNorm:
      return "GROUP_NORM";
    case NormKind::kInstanceNorm:
      return "INSTANCE_NORM";
    case NormKind::kRmsNorm:
      return "RMS_NORM";
  }
  return "unknown";
}

}  // namespace

absl::Status CheckNormConfig(const NormConfig& config) {
  if (config.kind != NormKind::kBatchNorm) {
    return MakeError(
        Reason::kKindNotImplemented,
        absl::StrCat("kind ", KindName(config.kind), " is not implemented, expected BATCH_NORM"),
        {{"field", "config.kind"}, {"kind", KindName(config.kind)}});
  }
  if (config.num_features < 1 || config.num_features > kNumFeaturesMax) {
    return MakeError(
        Reason::kNumFeaturesOutOfRange,
        absl::StrCat("num_features is ", config.num_features, ", expected 1 to ", kNumFeaturesMax),
        {{"field", "config.num_features"}});
  }
  if (!std::isfinite(config.eps) || config.eps < 0) {
    return MakeError(Reason::kEpsOutOfRange,
                     absl::StrCat("eps is ", config.eps, ", expected finite and >= 0"),
                     {{"field", "config.eps"}});
  }
  // Written so that NaN is out of range.
  if (config.momentum.has_value() && !(*config.momentum >= 0 && *config.momentum <= 1)) {
    return MakeError(Reason::kMomentumOutOfRange,
                     absl::StrCat("momentum is ", *config.momentum, ", expected 0 to 1"),
                     {{"field", "config.momentum"}});
  }
  if (config.running_var_correction != 0 && config.running_var_correction != 1) {
    return MakeError(Reason::kCorrectionOutOfRange,
                     absl::StrCat("running_var_correction is ", config.running_var_correction,
                                  ", expected 0 or 1"),
                     {{"field", "config.running_var_correction"}});
  }
  if (config.non_finite != NonFinitePolicy::kRefuse &&
      config.non_finite != NonFinitePolicy::kPropagate) {
    return MakeError(Reason::kNonFinitePolicyUnknown,
                     absl::StrCat("non_finite is ", static_cast<int>(config.non_finite),
                                  ", expected REFUSE (1) or PROPAGATE (2)"),
                     {{"field", "config.non_finite"}});
  }
  return absl::OkStatus();
}

}  // namespace normd
