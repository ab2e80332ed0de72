#include "core/norm/norm_config.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/status_macros.h"
#include "core/tensor/tensor_view.h"

namespace normd {
namespace {

bool HasNormalizedShape(NormKind kind) {
  return kind == NormKind::kLayerNorm || kind == NormKind::kRmsNorm;
}

absl::Status NotApplicable(absl::string_view field, absl::string_view actual, NormKind kind,
                           absl::string_view expected) {
  return MakeError(Reason::kFieldNotApplicable,
                   absl::StrCat(field, " is ", actual, ", which ", NormKindName(kind),
                                " does not have, expected ", expected),
                   {{"field", absl::StrCat("config.", field)}, {"kind", NormKindName(kind)}});
}

absl::Status NormalizedShapeInvalid(absl::string_view message) {
  return MakeError(Reason::kNormalizedShapeInvalid, message,
                   {{"field", "config.normalized_shape"}});
}

// normalized_shape and num_features, which is its product.
absl::Status CheckNormalizedShape(const NormConfig& config) {
  const absl::Span<const int64_t> shape = config.normalized_shape;
  if (shape.empty() || static_cast<int64_t>(shape.size()) > kNormalizedShapeAxesMax) {
    return NormalizedShapeInvalid(absl::StrCat("normalized_shape has ", shape.size(),
                                               " axes, expected 1 to ", kNormalizedShapeAxesMax));
  }
  int64_t product = 1;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] < 1) {
      return NormalizedShapeInvalid(absl::StrCat("normalized_shape is ", ShapeToString(shape),
                                                 ", with ", shape[axis], " at axis ", axis,
                                                 ", expected >= 1"));
    }
    // Divided, not multiplied: the product may overflow.
    if (shape[axis] > kNumFeaturesMax / product) {
      return NormalizedShapeInvalid(absl::StrCat("normalized_shape is ", ShapeToString(shape),
                                                 ", expected a product of at most ",
                                                 kNumFeaturesMax));
    }
    product *= shape[axis];
  }
  if (config.num_features != product) {
    return MakeError(Reason::kNumFeaturesOutOfRange,
                     absl::StrCat("num_features is ", config.num_features, ", expected ", product,
                                  ", the product of normalized_shape ", ShapeToString(shape)),
                     {{"field", "config.num_features"}});
  }
  return absl::OkStatus();
}

absl::Status CheckSizes(const NormConfig& config) {
  if (HasNormalizedShape(config.kind)) {
    NORMD_RETURN_IF_ERROR(CheckNormalizedShape(config));
  } else if (!config.normalized_shape.empty()) {
    return NotApplicable("normalized_shape", ShapeToString(config.normalized_shape), config.kind,
                         "it empty");
  }
  if (config.num_features < 1 || config.num_features > kNumFeaturesMax) {
    return MakeError(
        Reason::kNumFeaturesOutOfRange,
        absl::StrCat("num_features is ", config.num_features, ", expected 1 to ", kNumFeaturesMax),
        {{"field", "config.num_features"}});
  }
  if (config.kind == NormKind::kGroupNorm) {
    // torch/nn/modules/normalization.py, GroupNorm: num_channels must be divisible by num_groups.
    if (config.num_groups < 1 || config.num_features % config.num_groups != 0) {
      return MakeError(
          Reason::kNumGroupsInvalid,
          absl::StrCat("num_groups is ", config.num_groups,
                       ", expected >= 1 and a divisor of num_features ", config.num_features),
          {{"field", "config.num_groups"}});
    }
  } else if (config.num_groups != 0) {
    return NotApplicable("num_groups", absl::StrCat(config.num_groups), config.kind, "0");
  }
  return absl::OkStatus();
}

absl::Status CheckEps(const NormConfig& config) {
  if (config.eps_of_dtype && config.kind != NormKind::kRmsNorm) {
    return NotApplicable("eps", "the machine epsilon of the input's dtype", config.kind,
                         "a number");
  }
  if (!std::isfinite(config.eps) || config.eps < 0) {
    return MakeError(Reason::kEpsOutOfRange,
                     absl::StrCat("eps is ", config.eps, ", expected finite and >= 0"),
                     {{"field", "config.eps"}});
  }
  if (config.eps_of_dtype && config.eps != 0) {
    return MakeError(Reason::kEpsOutOfRange,
                     absl::StrCat("eps is ", config.eps,
                                  " and the machine epsilon of the input's dtype, expected one of "
                                  "the two"),
                     {{"field", "config.eps"}});
  }
  return absl::OkStatus();
}

absl::Status CheckAveraging(const NormConfig& config) {
  if (config.track_running_stats && !CanTrackRunningStats(config.kind)) {
    return NotApplicable("track_running_stats", "true", config.kind, "false");
  }
  if (!config.momentum.has_value() && config.kind != NormKind::kBatchNorm) {
    return NotApplicable("cumulative_average", "true", config.kind, "a momentum");
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
  return absl::OkStatus();
}

absl::Status CheckLearning(const NormConfig& config) {
  if (config.parameter_dtype != DataType::kFloat32 &&
      config.parameter_dtype != DataType::kFloat64) {
    return MakeError(Reason::kParameterDtypeInvalid,
                     absl::StrCat("parameter_dtype is ", DataTypeName(config.parameter_dtype), " (",
                                  static_cast<int>(config.parameter_dtype),
                                  "), expected FLOAT32 (1) or FLOAT64 (2)"),
                     {{"field", "config.parameter_dtype"}});
  }
  if (!config.optimizer.has_value()) return absl::OkStatus();
  if (!config.affine) {
    return MakeError(Reason::kFieldNotApplicable,
                     "optimizer is set and affine is false, expected affine true or no optimizer",
                     {{"field", "config.optimizer"}, {"kind", NormKindName(config.kind)}});
  }
  return CheckOptimizerConfig(*config.optimizer);
}

}  // namespace

NormConfig DefaultConfig(NormKind kind) {
  NormConfig config;
  config.kind = kind;
  config.track_running_stats = kind == NormKind::kBatchNorm;
  config.affine = kind != NormKind::kInstanceNorm;
  if (kind == NormKind::kRmsNorm) {
    config.eps = 0;
    config.eps_of_dtype = true;
  }
  return config;
}

absl::string_view NormKindName(NormKind kind) {
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

bool CanTrackRunningStats(NormKind kind) {
  return kind == NormKind::kBatchNorm || kind == NormKind::kInstanceNorm;
}

bool HasBias(const NormConfig& config) {
  return config.affine && config.kind != NormKind::kRmsNorm;
}

absl::Status CheckNormKind(NormKind kind) {
  switch (kind) {
    case NormKind::kBatchNorm:
    case NormKind::kLayerNorm:
    case NormKind::kGroupNorm:
    case NormKind::kInstanceNorm:
    case NormKind::kRmsNorm:
      return absl::OkStatus();
  }
  return MakeError(Reason::kKindUnknown,
                   absl::StrCat("kind is ", static_cast<int>(kind),
                                ", expected BATCH_NORM (1), LAYER_NORM (2), GROUP_NORM (3), "
                                "INSTANCE_NORM (4) or RMS_NORM (5)"),
                   {{"field", "config.kind"}});
}

absl::Status CheckNormConfig(const NormConfig& config) {
  NORMD_RETURN_IF_ERROR(CheckNormKind(config.kind));
  NORMD_RETURN_IF_ERROR(CheckSizes(config));
  NORMD_RETURN_IF_ERROR(CheckEps(config));
  NORMD_RETURN_IF_ERROR(CheckAveraging(config));
  if (config.non_finite != NonFinitePolicy::kRefuse &&
      config.non_finite != NonFinitePolicy::kPropagate) {
    return MakeError(Reason::kNonFinitePolicyUnknown,
                     absl::StrCat("non_finite is ", static_cast<int>(config.non_finite),
                                  ", expected REFUSE (1) or PROPAGATE (2)"),
                     {{"field", "config.non_finite"}});
  }
  return CheckLearning(config);
}

}  // namespace normd
