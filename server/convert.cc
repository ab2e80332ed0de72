#include "server/convert.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/names.h"
#include "core/base/status_macros.h"
#include "google/protobuf/util/time_util.h"

namespace normd {
namespace {

constexpr double kDefaultMomentum = 0.1;

absl::StatusOr<DataType> DataTypeFromWire(v1::DataType dtype) {
  switch (dtype) {
    case v1::FLOAT32:
    case v1::FLOAT64:
    case v1::FLOAT16:
    case v1::BFLOAT16:
      return static_cast<DataType>(dtype);
    default:
      return MakeError(Reason::kDtypeUnknown,
                       absl::StrCat("dtype is ", static_cast<int>(dtype),
                                    ", expected FLOAT32 (1), FLOAT64 (2), FLOAT16 (3) or "
                                    "BFLOAT16 (4)"),
                       {{"field", "dtype"}, {"actual", absl::StrCat(static_cast<int>(dtype))}});
  }
}

absl::StatusOr<Layout> LayoutFromWire(v1::Layout layout) {
  switch (layout) {
    case v1::LAYOUT_UNSPECIFIED:
    case v1::CHANNELS_FIRST:
      return Layout::kChannelsFirst;
    case v1::CHANNELS_LAST:
      return Layout::kChannelsLast;
    default:
      return MakeError(Reason::kLayoutUnknown,
                       absl::StrCat("layout is ", static_cast<int>(layout),
                                    ", expected CHANNELS_FIRST (1) or CHANNELS_LAST (2)"),
                       {{"field", "layout"}});
  }
}

absl::StatusOr<NonFinitePolicy> NonFiniteFromWire(v1::NormConfig::NonFinite non_finite) {
  switch (non_finite) {
    case v1::NormConfig::NON_FINITE_UNSPECIFIED:
    case v1::NormConfig::REFUSE:
      return NonFinitePolicy::kRefuse;
    case v1::NormConfig::PROPAGATE:
      return NonFinitePolicy::kPropagate;
    default:
      return MakeError(Reason::kNonFinitePolicyUnknown,
                       absl::StrCat("non_finite is ", static_cast<int>(non_finite),
                                    ", expected REFUSE (1) or PROPAGATE (2)"),
                       {{"field", "config.non_finite"}});
  }
}

std::optional<double> MomentumFromWire(const v1::NormConfig& config) {
  if (config.averaging_case() == v1::NormConfig::kMomentum) return config.momentum();
  if (config.cumulative_average()) return std::nullopt;
  return kDefaultMomentum;
}

template <typename T>
void TensorToWire(DataType dtype, const std::vector<T>& values, v1::Tensor& wire) {
  wire.set_dtype(static_cast<v1::DataType>(dtype));
  wire.add_shape(static_cast<int64_t>(values.size()));
  wire.set_layout(v1::CHANNELS_FIRST);
  wire.set_data(values.data(), values.size() * sizeof(T));
}

void ConfigToWire(const NormConfig& config, v1::NormConfig& wire) {
  wire.set_kind(static_cast<v1::NormConfig::Kind>(config.kind));
  wire.set_num_features(config.num_features);
  wire.set_eps(config.eps);
  if (config.momentum.has_value()) {
    wire.set_momentum(*config.momentum);
  } else {
    wire.set_cumulative_average(true);
  }
  wire.set_affine(config.affine);
  wire.set_track_running_stats(config.track_running_stats);
  wire.set_running_var_correction(config.running_var_correction);
  wire.set_non_finite(static_cast<v1::NormConfig::NonFinite>(config.non_finite));
}

std::vector<float> ToFloat(const std::vector<double>& values) {
  return std::vector<float>(values.begin(), values.end());
}

}  // namespace

absl::StatusOr<TensorView> TensorFromWire(const v1::Tensor& tensor) {
  NORMD_ASSIGN_OR_RETURN(const DataType dtype, DataTypeFromWire(tensor.dtype()));
  NORMD_ASSIGN_OR_RETURN(const Layout layout, LayoutFromWire(tensor.layout()));
  return TensorView::Create(dtype, layout, tensor.shape(), tensor.data());
}

Moments MomentsFromWire(const v1::Moments& moments) {
  return {.count = moments.count(),
          .mean = std::vector<double>(moments.mean().begin(), moments.mean().end()),
          .m2 = std::vector<double>(moments.m2().begin(), moments.m2().end())};
}

void MomentsToWire(const Moments& moments, v1::Moments& wire) {
  wire.set_count(moments.count);
  wire.mutable_mean()->Add(moments.mean.begin(), moments.mean.end());
  wire.mutable_m2()->Add(moments.m2.begin(), moments.m2.end());
}

absl::StatusOr<Durability> DurabilityFromWire(v1::Durability durability) {
  switch (durability) {
    case v1::DURABILITY_UNSPECIFIED:
    case v1::DURABLE:
      return Durability::kDurable;
    case v1::RELAXED:
      return Durability::kRelaxed;
    default:
      return MakeError(Reason::kDurabilityUnknown,
                       absl::StrCat("durability is ", static_cast<int>(durability),
                                    ", expected DURABLE (1) or RELAXED (2)"),
                       {{"field", "durability"}});
  }
}

absl::StatusOr<NormConfig> ConfigFromWire(const v1::NormConfig& config) {
  NormConfig result;
  if (config.kind() < v1::NormConfig::BATCH_NORM || config.kind() > v1::NormConfig::RMS_NORM) {
    return MakeError(
        Reason::kKindUnknown,
        absl::StrCat("kind is ", static_cast<int>(config.kind()), ", expected BATCH_NORM (1)"),
        {{"field", "config.kind"}});
  }
  result.kind = static_cast<NormKind>(config.kind());
  result.num_features = config.num_features();
  if (config.has_eps()) result.eps = config.eps();
  result.momentum = MomentumFromWire(config);
  if (config.has_affine()) result.affine = config.affine();
  if (config.has_track_running_stats()) result.track_running_stats = config.track_running_stats();
  if (config.has_running_var_correction()) {
    result.running_var_correction = config.running_var_correction();
  }
  NORMD_ASSIGN_OR_RETURN(result.non_finite, NonFiniteFromWire(config.non_finite()));
  return result;
}

absl::StatusOr<NormConfig> UpdatedConfig(const NormConfig& current, const v1::NormConfig& wire,
                                         const google::protobuf::FieldMask& mask) {
  constexpr absl::string_view kExpected =
      "expected config.eps, config.momentum, config.cumulative_average, "
      "config.running_var_correction or config.non_finite";
  if (mask.paths().empty()) {
    return MakeError(Reason::kUpdateMaskInvalid, absl::StrCat("update_mask is empty, ", kExpected),
                     {{"field", "update_mask"}});
  }
  NormConfig result = current;
  for (const std::string& path : mask.paths()) {
    if (path == "config.eps") {
      result.eps = wire.has_eps() ? wire.eps() : NormConfig().eps;
    } else if (path == "config.momentum" || path == "config.cumulative_average") {
      result.momentum = MomentumFromWire(wire);
    } else if (path == "config.running_var_correction") {
      result.running_var_correction =
          wire.has_running_var_correction() ? wire.running_var_correction() : 1;
    } else if (path == "config.non_finite") {
      NORMD_ASSIGN_OR_RETURN(result.non_finite, NonFiniteFromWire(wire.non_finite()));
    } else if (path == "name" || path == "config.kind" || path == "config.num_features" ||
               path == "config.affine" || path == "config.track_running_stats") {
      return MakeError(Reason::kFieldImmutable,
                       absl::StrCat(path, " is fixed at creation, ", kExpected), {{"field", path}});
    } else {
      return MakeError(Reason::kUpdateMaskInvalid,
                       absl::StrCat("update_mask has the path '", path, "', ", kExpected),
                       {{"field", "update_mask"}, {"path", path}});
    }
  }
  return result;
}

absl::StatusOr<std::vector<double>> VectorFromWire(absl::string_view field,
                                                   const v1::Tensor& tensor) {
  const absl::StatusOr<TensorView> view = TensorFromWire(tensor);
  if (!view.ok()) return Prefixed(view.status(), absl::StrCat(field, ": "));
  if (view->rank() != 1) {
    return MakeError(
        Reason::kParametersLengthMismatch,
        absl::StrCat(field, " has shape ", ShapeToString(view->shape()), ", expected one axis"),
        {{"field", field}});
  }
  switch (view->dtype()) {
    case DataType::kFloat32: {
      const auto* first = reinterpret_cast<const float*>(view->data().data());
      return std::vector<double>(first, first + view->num_elements());
    }
    case DataType::kFloat64: {
      const auto* first = reinterpret_cast<const double*>(view->data().data());
      return std::vector<double>(first, first + view->num_elements());
    }
    default:
      return MakeError(Reason::kDtypeNotImplemented,
                       absl::StrCat(field, " has dtype ", DataTypeName(view->dtype()),
                                    ", which is not implemented, expected FLOAT32 or FLOAT64"),
                       {{"field", field}});
  }
}

absl::StatusOr<InitialValues> InitialValuesFromWire(const v1::State& state) {
  InitialValues values;
  NORMD_RETURN_IF_ERROR(ParametersFromWire(state.parameters(), values.weight, values.bias));
  if (state.has_running_stats()) {
    const v1::RunningStats& wire = state.running_stats();
    const auto length =
        static_cast<size_t>(std::clamp<int64_t>(state.config().num_features(), 0, kNumFeaturesMax));
    RunningStats stats = RunningStats::Initial(static_cast<int64_t>(length));
    if (wire.has_running_mean()) {
      NORMD_ASSIGN_OR_RETURN(stats.mean, VectorFromWire("running_mean", wire.running_mean()));
    }
    if (wire.has_running_var()) {
      NORMD_ASSIGN_OR_RETURN(stats.var, VectorFromWire("running_var", wire.running_var()));
    }
    stats.num_batches_tracked = wire.num_batches_tracked();
    values.running_stats = std::move(stats);
  }
  return values;
}

absl::Status ParametersFromWire(const v1::Parameters& parameters,
                                std::optional<std::vector<float>>& weight,
                                std::optional<std::vector<float>>& bias) {
  if (parameters.has_weight()) {
    NORMD_ASSIGN_OR_RETURN(const std::vector<double> values,
                           VectorFromWire("weight", parameters.weight()));
    weight = ToFloat(values);
  }
  if (parameters.has_bias()) {
    NORMD_ASSIGN_OR_RETURN(const std::vector<double> values,
                           VectorFromWire("bias", parameters.bias()));
    bias = ToFloat(values);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> IsFullView(v1::StateView view, bool unspecified_is_full) {
  switch (view) {
    case v1::STATE_VIEW_UNSPECIFIED:
      return unspecified_is_full;
    case v1::BASIC:
      return false;
    case v1::FULL:
      return true;
    default:
      return MakeError(
          Reason::kViewUnknown,
          absl::StrCat("view is ", static_cast<int>(view), ", expected BASIC (1) or FULL (2)"),
          {{"field", "view"}});
  }
}

void StateToWire(const NormState& state, bool full, v1::State& wire) {
  wire.set_name(state.name);
  ConfigToWire(state.config, *wire.mutable_config());
  if (full && state.config.affine) {
    TensorToWire(DataType::kFloat32, state.weight, *wire.mutable_parameters()->mutable_weight());
    TensorToWire(DataType::kFloat32, state.bias, *wire.mutable_parameters()->mutable_bias());
  }
  if (state.running_stats.has_value()) {
    v1::RunningStats& stats = *wire.mutable_running_stats();
    stats.set_num_batches_tracked(state.running_stats->num_batches_tracked);
    if (full) {
      TensorToWire(DataType::kFloat64, state.running_stats->mean, *stats.mutable_running_mean());
      TensorToWire(DataType::kFloat64, state.running_stats->var, *stats.mutable_running_var());
    }
  }
  wire.set_frozen(state.frozen);
  wire.set_revision(state.revision);
  wire.set_etag(state.Etag());
  using google::protobuf::util::TimeUtil;
  *wire.mutable_create_time() =
      TimeUtil::MicrosecondsToTimestamp(absl::ToUnixMicros(state.create_time));
  *wire.mutable_update_time() =
      TimeUtil::MicrosecondsToTimestamp(absl::ToUnixMicros(state.update_time));
  wire.set_producer_count(static_cast<int64_t>(state.producers.entries().size()));
}

std::string PageTokenToWire(absl::string_view prefix, absl::string_view after) {
  if (after.empty()) return "";
  return absl::WebSafeBase64Escape(absl::StrCat(prefix, "\n", after));
}

absl::StatusOr<std::string> PageTokenFromWire(absl::string_view prefix, absl::string_view token) {
  if (token.empty()) return "";
  std::string plain;
  absl::string_view after;
  const bool parsed = absl::WebSafeBase64Unescape(token, &plain);
  if (after = plain; !parsed || !absl::ConsumePrefix(&after, absl::StrCat(prefix, "\n")) ||
                     !absl::StartsWith(after, prefix) || !CheckStateName(after).ok()) {
    return MakeError(
        Reason::kPageTokenInvalid,
        absl::StrCat("page_token is not one that was given for the prefix '", prefix, "'"),
        {{"field", "page_token"}});
  }
  return std::string(after);
}

}  // namespace normd
