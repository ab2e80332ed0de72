#include "core/state/value_check.h"

#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/status_macros.h"

namespace normd {
namespace {

absl::Status WrongValue(Reason reason, absl::string_view field, double value, size_t channel,
                        absl::string_view expected) {
  return MakeError(
      reason, absl::StrCat(field, " is ", value, " at channel ", channel, ", expected ", expected),
      {{"field", field}, {"index", absl::StrCat(channel)}});
}

absl::Status CheckLength(absl::string_view field, const std::vector<double>& values,
                         int64_t num_features) {
  if (static_cast<int64_t>(values.size()) == num_features) return absl::OkStatus();
  return MakeError(Reason::kParametersLengthMismatch,
                   absl::StrCat("num_features is ", num_features, ", ", field, " has ",
                                values.size(), " values"),
                   {{"field", field},
                    {"expected", absl::StrCat(num_features)},
                    {"actual", absl::StrCat(values.size())}});
}

absl::Status CheckFinite(absl::string_view field, const std::vector<double>& values) {
  for (size_t c = 0; c < values.size(); ++c) {
    if (std::isfinite(values[c])) continue;
    return WrongValue(Reason::kNonFiniteValue, field, values[c], c, "a finite value");
  }
  return absl::OkStatus();
}

// The parameters that `given` names are there. `use` is what they are given for.
absl::Status CheckPresent(const NormConfig& config, const Parameters& given,
                          absl::string_view use) {
  if (!config.affine && (given.weight.has_value() || given.bias.has_value())) {
    return MakeError(Reason::kParametersAbsent,
                     absl::StrCat("affine is false, so there is no weight and bias to ", use),
                     {{"field", "parameters"}});
  }
  if (!HasBias(config) && given.bias.has_value()) {
    return MakeError(
        Reason::kParametersAbsent,
        absl::StrCat("kind is ", NormKindName(config.kind), ", so there is no bias to ", use),
        {{"field", "bias"}});
  }
  return absl::OkStatus();
}

absl::Status CheckAndRound(absl::string_view field, const NormConfig& config,
                           std::optional<std::vector<double>>& values) {
  if (!values.has_value()) return absl::OkStatus();
  NORMD_RETURN_IF_ERROR(CheckLength(field, *values, config.num_features));
  NORMD_RETURN_IF_ERROR(CheckFinite(field, *values));
  std::vector<double> rounded = *values;
  Round(config.parameter_dtype, rounded);
  for (size_t c = 0; c < rounded.size(); ++c) {
    if (!std::isfinite(rounded[c])) {
      return WrongValue(Reason::kNonFiniteValue, field, (*values)[c], c,
                        absl::StrCat("a value that is finite in parameter_dtype ",
                                     DataTypeName(config.parameter_dtype)));
    }
  }
  values = std::move(rounded);
  return absl::OkStatus();
}

absl::Status CheckGradient(absl::string_view field, const NormConfig& config,
                           const std::optional<std::vector<double>>& grad) {
  if (!grad.has_value()) return absl::OkStatus();
  NORMD_RETURN_IF_ERROR(CheckLength(field, *grad, config.num_features));
  if (config.non_finite == NonFinitePolicy::kPropagate) return absl::OkStatus();
  return CheckFinite(field, *grad);
}

}  // namespace

absl::Status CheckAndRound(const NormConfig& config, Parameters& parameters) {
  NORMD_RETURN_IF_ERROR(CheckPresent(config, parameters, "set"));
  NORMD_RETURN_IF_ERROR(CheckAndRound("weight", config, parameters.weight));
  return CheckAndRound("bias", config, parameters.bias);
}

absl::Status CheckRunningStats(const NormConfig& config, const RunningStats& stats) {
  if (!config.track_running_stats) {
    return MakeError(Reason::kRunningStatsAbsent,
                     "track_running_stats is false, so there are no running statistics to set",
                     {{"field", "running_stats"}});
  }
  NORMD_RETURN_IF_ERROR(CheckLength("running_mean", stats.mean, config.num_features));
  NORMD_RETURN_IF_ERROR(CheckFinite("running_mean", stats.mean));
  NORMD_RETURN_IF_ERROR(CheckLength("running_var", stats.var, config.num_features));
  NORMD_RETURN_IF_ERROR(CheckFinite("running_var", stats.var));
  for (size_t c = 0; c < stats.var.size(); ++c) {
    if (stats.var[c] >= 0) continue;
    return WrongValue(Reason::kRunningStatsOutOfRange, "running_var", stats.var[c], c, ">= 0");
  }
  if (stats.num_batches_tracked < 0 || stats.num_batches_tracked > kNumBatchesTrackedMax) {
    return MakeError(Reason::kRunningStatsOutOfRange,
                     absl::StrCat("num_batches_tracked is ", stats.num_batches_tracked,
                                  ", expected 0 to ", kNumBatchesTrackedMax),
                     {{"field", "running_stats.num_batches_tracked"}});
  }
  if (stats.num_batches_tracked != 0 && config.kind == NormKind::kInstanceNorm) {
    return MakeError(
        Reason::kFieldNotApplicable,
        absl::StrCat("num_batches_tracked is ", stats.num_batches_tracked,
                     ", expected 0: INSTANCE_NORM counts no batches"),
        {{"field", "running_stats.num_batches_tracked"}, {"kind", NormKindName(config.kind)}});
  }
  return absl::OkStatus();
}

absl::Status CheckGradients(const NormConfig& config, const Parameters& gradients) {
  if (!config.affine) {
    return MakeError(Reason::kParametersAbsent,
                     "affine is false, so there is no weight and bias to step");
  }
  if (!config.optimizer.has_value()) {
    return MakeError(Reason::kOptimizerAbsent,
                     "the config has no optimizer, expected one to step weight and bias by");
  }
  if (!gradients.weight.has_value() && !gradients.bias.has_value()) {
    return MakeError(Reason::kGradientsMissing,
                     "neither grad_weight nor grad_bias is set, expected one or both");
  }
  NORMD_RETURN_IF_ERROR(CheckPresent(config, gradients, "step"));
  NORMD_RETURN_IF_ERROR(CheckGradient("grad_weight", config, gradients.weight));
  return CheckGradient("grad_bias", config, gradients.bias);
}

void Round(DataType dtype, std::vector<double>& values) {
  if (dtype == DataType::kFloat64) return;
  for (double& value : values) value = static_cast<double>(static_cast<float>(value));
}

}  // namespace normd
