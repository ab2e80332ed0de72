#include "server/convert_config.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/status_macros.h"

namespace normd {
namespace {

constexpr double kAdamWWeightDecay = 1e-2;

absl::Status NotApplicable(absl::string_view path, NormKind kind) {
  return MakeError(Reason::kFieldNotApplicable,
                   absl::StrCat(absl::StripPrefix(path, "config."), " is set, and ",
                                NormKindName(kind), " does not have it, expected none"),
                   {{"field", path}, {"kind", NormKindName(kind)}});
}

// What CheckNormConfig cannot see, since core's config always has these fields.
absl::Status CheckApplicable(const v1::NormConfig& wire, NormKind kind) {
  if (CanTrackRunningStats(kind)) return absl::OkStatus();
  if (wire.has_momentum()) return NotApplicable("config.momentum", kind);
  if (wire.cumulative_average()) return NotApplicable("config.cumulative_average", kind);
  if (wire.has_running_var_correction()) {
    return NotApplicable("config.running_var_correction", kind);
  }
  return absl::OkStatus();
}

// A number that is none of the enum's is left for CheckNormConfig to tell.
NonFinitePolicy NonFiniteFromWire(v1::NormConfig::NonFinite non_finite) {
  return non_finite == v1::NormConfig::NON_FINITE_UNSPECIFIED
             ? NormConfig().non_finite
             : static_cast<NonFinitePolicy>(non_finite);
}

// As above.
DataType ParameterDtypeFromWire(v1::DataType dtype) {
  return dtype == v1::DATA_TYPE_UNSPECIFIED ? NormConfig().parameter_dtype
                                            : static_cast<DataType>(dtype);
}

std::optional<double> MomentumFromWire(const v1::NormConfig& wire) {
  if (wire.averaging_case() == v1::NormConfig::kMomentum) return wire.momentum();
  if (wire.cumulative_average()) return std::nullopt;
  return NormConfig().momentum;
}

int CorrectionFromWire(const v1::NormConfig& wire) {
  return wire.has_running_var_correction() ? wire.running_var_correction()
                                           : NormConfig().running_var_correction;
}

void EpsFromWire(const v1::NormConfig& wire, NormConfig& config) {
  const NormConfig defaults = DefaultConfig(config.kind);
  config.eps = wire.has_eps() ? wire.eps() : defaults.eps;
  config.eps_of_dtype = !wire.has_eps() && defaults.eps_of_dtype;
}

// product(normalized_shape); 0 when it is none that a state may have, which CheckNormConfig tells.
int64_t NumFeaturesOf(const std::vector<int64_t>& normalized_shape) {
  int64_t product = 1;
  for (const int64_t axis : normalized_shape) {
    if (axis < 1 || axis > kNumFeaturesMax / product) return 0;
    product *= axis;
  }
  return product;
}

absl::Status InvalidOptimizer(absl::string_view field, absl::string_view problem) {
  return MakeError(Reason::kOptimizerInvalid, absl::StrCat("optimizer.", field, problem),
                   {{"field", absl::StrCat("config.optimizer.", field)}});
}

absl::StatusOr<double> LrFromWire(const v1::Optimizer& wire, OptimizerAlgorithm algorithm) {
  if (wire.has_lr()) return wire.lr();
  if (algorithm == OptimizerAlgorithm::kSgd) {
    return InvalidOptimizer("lr", " is not set, expected a value: SGD has no default");
  }
  return OptimizerConfig().lr;
}

absl::Status CheckFieldsOfAlgorithm(const v1::Optimizer& wire) {
  struct Field {
    absl::string_view name;
    bool is_set;
    bool is_of_sgd;
  };
  const std::array<Field, 7> fields = {{{"momentum", wire.has_momentum(), true},
                                        {"dampening", wire.has_dampening(), true},
                                        {"nesterov", wire.has_nesterov(), true},
                                        {"beta1", wire.has_beta1(), false},
                                        {"beta2", wire.has_beta2(), false},
                                        {"eps", wire.has_eps(), false},
                                        {"amsgrad", wire.has_amsgrad(), false}}};
  for (const Field& field : fields) {
    if (field.is_set && field.is_of_sgd != (wire.algorithm() == v1::Optimizer::SGD)) {
      return InvalidOptimizer(
          field.name, absl::StrCat(" is set, and ", v1::Optimizer::Algorithm_Name(wire.algorithm()),
                                   " does not have it, expected none"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<OptimizerConfig> OptimizerFromWire(const v1::Optimizer& wire) {
  OptimizerConfig result;
  result.algorithm = static_cast<OptimizerAlgorithm>(wire.algorithm());
  NORMD_RETURN_IF_ERROR(CheckOptimizerAlgorithm(result.algorithm));
  NORMD_RETURN_IF_ERROR(CheckFieldsOfAlgorithm(wire));
  NORMD_ASSIGN_OR_RETURN(result.lr, LrFromWire(wire, result.algorithm));
  if (wire.has_momentum()) result.momentum = wire.momentum();
  if (wire.has_dampening()) result.dampening = wire.dampening();
  if (wire.has_nesterov()) result.nesterov = wire.nesterov();
  if (result.algorithm == OptimizerAlgorithm::kAdamW) result.weight_decay = kAdamWWeightDecay;
  if (wire.has_weight_decay()) result.weight_decay = wire.weight_decay();
  if (wire.has_beta1()) result.beta1 = wire.beta1();
  if (wire.has_beta2()) result.beta2 = wire.beta2();
  if (wire.has_eps()) result.eps = wire.eps();
  if (wire.has_amsgrad()) result.amsgrad = wire.amsgrad();
  if (wire.has_maximize()) result.maximize = wire.maximize();
  return result;
}

void OptimizerToWire(const OptimizerConfig& optimizer, v1::Optimizer& wire) {
  wire.set_algorithm(static_cast<v1::Optimizer::Algorithm>(optimizer.algorithm));
  wire.set_lr(optimizer.lr);
  wire.set_weight_decay(optimizer.weight_decay);
  wire.set_maximize(optimizer.maximize);
  if (optimizer.algorithm == OptimizerAlgorithm::kSgd) {
    wire.set_momentum(optimizer.momentum);
    wire.set_dampening(optimizer.dampening);
    wire.set_nesterov(optimizer.nesterov);
  } else {
    wire.set_beta1(optimizer.beta1);
    wire.set_beta2(optimizer.beta2);
    wire.set_eps(optimizer.eps);
    wire.set_amsgrad(optimizer.amsgrad);
  }
}

constexpr absl::string_view kUpdatable =
    "expected config.eps, config.momentum, config.cumulative_average, "
    "config.running_var_correction, config.non_finite, config.optimizer or config.optimizer.lr";

bool IsFixed(absl::string_view path) {
  for (const absl::string_view fixed :
       {"name", "config.kind", "config.num_features", "config.affine", "config.track_running_stats",
        "config.normalized_shape", "config.num_groups", "config.parameter_dtype"}) {
    if (path == fixed) return true;
  }
  return false;
}

// Takes the field that `path` names from `wire`.
absl::Status UpdateField(absl::string_view path, const v1::NormConfig& wire, NormConfig& config) {
  if (path == "config.eps") {
    EpsFromWire(wire, config);
  } else if (path == "config.momentum" || path == "config.cumulative_average") {
    if (!CanTrackRunningStats(config.kind)) return NotApplicable(path, config.kind);
    config.momentum = MomentumFromWire(wire);
  } else if (path == "config.running_var_correction") {
    if (!CanTrackRunningStats(config.kind)) return NotApplicable(path, config.kind);
    config.running_var_correction = CorrectionFromWire(wire);
  } else if (path == "config.non_finite") {
    config.non_finite = NonFiniteFromWire(wire.non_finite());
  } else if (path == "config.optimizer") {
    config.optimizer.reset();
    if (wire.has_optimizer()) {
      NORMD_ASSIGN_OR_RETURN(config.optimizer, OptimizerFromWire(wire.optimizer()));
    }
  } else if (path == "config.optimizer.lr") {
    if (!config.optimizer.has_value()) {
      return MakeError(Reason::kOptimizerAbsent,
                       "the state has no optimizer, expected one to update config.optimizer.lr of",
                       {{"field", path}});
    }
    NORMD_ASSIGN_OR_RETURN(config.optimizer->lr,
                           LrFromWire(wire.optimizer(), config.optimizer->algorithm));
  } else if (IsFixed(path)) {
    return MakeError(Reason::kFieldImmutable,
                     absl::StrCat(path, " is fixed at creation, ", kUpdatable), {{"field", path}});
  } else {
    return MakeError(Reason::kUpdateMaskInvalid,
                     absl::StrCat("update_mask has the path '", path, "', ", kUpdatable),
                     {{"field", "update_mask"}, {"path", path}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<NormConfig> ConfigFromWire(const v1::NormConfig& wire) {
  const auto kind = static_cast<NormKind>(wire.kind());
  NORMD_RETURN_IF_ERROR(CheckNormKind(kind));
  NORMD_RETURN_IF_ERROR(CheckApplicable(wire, kind));
  NormConfig result = DefaultConfig(kind);
  result.normalized_shape.assign(wire.normalized_shape().begin(), wire.normalized_shape().end());
  result.num_features = wire.num_features();
  if (result.num_features == 0 && !result.normalized_shape.empty()) {
    result.num_features = NumFeaturesOf(result.normalized_shape);
  }
  result.num_groups = wire.num_groups();
  EpsFromWire(wire, result);
  if (CanTrackRunningStats(kind)) {
    result.momentum = MomentumFromWire(wire);
    result.running_var_correction = CorrectionFromWire(wire);
  }
  if (wire.has_affine()) result.affine = wire.affine();
  if (wire.has_track_running_stats()) result.track_running_stats = wire.track_running_stats();
  result.non_finite = NonFiniteFromWire(wire.non_finite());
  result.parameter_dtype = ParameterDtypeFromWire(wire.parameter_dtype());
  if (wire.has_optimizer()) {
    NORMD_ASSIGN_OR_RETURN(result.optimizer, OptimizerFromWire(wire.optimizer()));
  }
  return result;
}

absl::StatusOr<NormConfig> UpdatedConfig(const NormConfig& current, const v1::NormConfig& wire,
                                         const google::protobuf::FieldMask& mask) {
  if (mask.paths().empty()) {
    return MakeError(Reason::kUpdateMaskInvalid, absl::StrCat("update_mask is empty, ", kUpdatable),
                     {{"field", "update_mask"}});
  }
  NormConfig result = current;
  for (const std::string& path : mask.paths()) {
    NORMD_RETURN_IF_ERROR(UpdateField(path, wire, result));
  }
  return result;
}

void ConfigToWire(const NormConfig& config, v1::NormConfig& wire) {
  wire.set_kind(static_cast<v1::NormConfig::Kind>(config.kind));
  wire.set_num_features(config.num_features);
  wire.mutable_normalized_shape()->Add(config.normalized_shape.begin(),
                                       config.normalized_shape.end());
  wire.set_num_groups(config.num_groups);
  if (!config.eps_of_dtype) wire.set_eps(config.eps);
  if (CanTrackRunningStats(config.kind)) {
    if (config.momentum.has_value()) {
      wire.set_momentum(*config.momentum);
    } else {
      wire.set_cumulative_average(true);
    }
    wire.set_running_var_correction(config.running_var_correction);
  }
  wire.set_affine(config.affine);
  wire.set_track_running_stats(config.track_running_stats);
  wire.set_non_finite(static_cast<v1::NormConfig::NonFinite>(config.non_finite));
  wire.set_parameter_dtype(static_cast<v1::DataType>(config.parameter_dtype));
  if (config.optimizer.has_value()) OptimizerToWire(*config.optimizer, *wire.mutable_optimizer());
}

absl::StatusOr<CalibrationMethod> CalibrationMethodFromWire(v1::Calibration::Method method) {
  switch (method) {
    case v1::Calibration::MEAN_OF_BATCHES:
      return CalibrationMethod::kMeanOfBatches;
    case v1::Calibration::POOLED:
      return CalibrationMethod::kPooled;
    default:
      return MakeError(Reason::kCalibrationMethodUnknown,
                       absl::StrCat("method is ", static_cast<int>(method),
                                    ", expected MEAN_OF_BATCHES (1) or POOLED (2)"),
                       {{"field", "method"}});
  }
}

}  // namespace normd
