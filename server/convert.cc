#include "server/convert.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "core/base/error.h"
#include "core/base/names.h"
#include "core/base/status_macros.h"
#include "google/protobuf/util/time_util.h"
#include "server/convert_config.h"

namespace normd {
namespace {

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

// The shape of weight and bias.
absl::Span<const int64_t> WeightShape(const NormConfig& config) {
  return config.normalized_shape.empty() ? absl::MakeConstSpan(&config.num_features, 1)
                                         : absl::MakeConstSpan(config.normalized_shape);
}

template <typename Values>
void TensorToWire(DataType dtype, absl::Span<const int64_t> shape, const Values& values,
                  v1::Tensor& wire) {
  wire.set_dtype(static_cast<v1::DataType>(dtype));
  wire.mutable_shape()->Add(shape.begin(), shape.end());
  wire.set_layout(v1::CHANNELS_FIRST);
  wire.set_data(values.data(), values.size() * sizeof(values[0]));
}

template <typename T>
std::vector<double> ToDoubles(const TensorView& tensor) {
  const auto* first = reinterpret_cast<const T*>(tensor.bytes().run());
  return std::vector<double>(first, first + tensor.num_elements());
}

// The values in row-major order. `field` stands in errors.
absl::StatusOr<std::vector<double>> VectorFromWire(absl::string_view field,
                                                   const v1::Tensor& tensor) {
  const absl::StatusOr<TensorView> view = TensorFromWire(tensor);
  if (!view.ok()) return Prefixed(view.status(), absl::StrCat(field, ": "));
  switch (view->dtype()) {
    case DataType::kFloat32:
      return ToDoubles<float>(*view);
    case DataType::kFloat64:
      return ToDoubles<double>(*view);
    default:
      return MakeError(Reason::kParameterDtypeInvalid,
                       absl::StrCat(field, " has dtype ", DataTypeName(view->dtype()),
                                    ", expected FLOAT32 or FLOAT64"),
                       {{"field", field}});
  }
}

absl::Status CheckVectorShape(absl::string_view field, const v1::Tensor& tensor,
                              const NormConfig& config) {
  const absl::Span<const int64_t> shape = tensor.shape();
  const absl::Span<const int64_t> weight_shape = WeightShape(config);
  if (shape.size() == 1 || shape == weight_shape) return absl::OkStatus();
  const std::string expected = absl::StrCat(
      weight_shape.size() == 1 ? "" : absl::StrCat(ShapeToString(weight_shape), " or "), "[",
      config.num_features, "]");
  const std::string actual = ShapeToString(shape);
  return MakeError(Reason::kParametersLengthMismatch,
                   absl::StrCat(field, " has shape ", actual, ", expected ", expected),
                   {{"field", field}, {"expected", expected}, {"actual", actual}});
}

// Both of the above.
absl::StatusOr<std::vector<double>> CheckedVectorFromWire(absl::string_view field,
                                                          const v1::Tensor& tensor,
                                                          const NormConfig& config) {
  NORMD_ASSIGN_OR_RETURN(std::vector<double> values, VectorFromWire(field, tensor));
  NORMD_RETURN_IF_ERROR(CheckVectorShape(field, tensor, config));
  return values;
}

void CalibrationToWire(const Calibration& calibration, v1::Calibration& wire) {
  wire.set_method(static_cast<v1::Calibration::Method>(calibration.method));
  wire.set_num_batches(calibration.num_batches);
  wire.set_count(calibration.count);
  wire.set_calibration_id(calibration.id);
}

}  // namespace

absl::StatusOr<TensorView> TensorFromWire(const v1::Tensor& tensor) {
  return TensorFromWire(tensor, TensorBytes(tensor.data()));
}

absl::StatusOr<TensorView> TensorFromWire(const v1::Tensor& tensor, const TensorBytes& bytes) {
  NORMD_ASSIGN_OR_RETURN(const DataType dtype, DataTypeFromWire(tensor.dtype()));
  NORMD_ASSIGN_OR_RETURN(const Layout layout, LayoutFromWire(tensor.layout()));
  return TensorView::Create(dtype, layout, tensor.shape(), bytes);
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

absl::StatusOr<InitialValues> InitialValuesFromWire(const v1::State& state,
                                                    const NormConfig& config) {
  InitialValues values;
  NORMD_ASSIGN_OR_RETURN(values.parameters, ParametersFromWire(state.parameters()));
  NORMD_RETURN_IF_ERROR(CheckParameterShapes(state.parameters(), config));
  if (state.has_running_stats()) {
    const v1::RunningStats& wire = state.running_stats();
    RunningStats stats = RunningStats::Initial(config.num_features);
    if (wire.has_running_mean()) {
      NORMD_ASSIGN_OR_RETURN(stats.mean,
                             CheckedVectorFromWire("running_mean", wire.running_mean(), config));
    }
    if (wire.has_running_var()) {
      NORMD_ASSIGN_OR_RETURN(stats.var,
                             CheckedVectorFromWire("running_var", wire.running_var(), config));
    }
    stats.num_batches_tracked = wire.num_batches_tracked();
    values.running_stats = std::move(stats);
  }
  return values;
}

absl::StatusOr<Parameters> GradientsFromWire(const v1::ApplyGradientsRequest& request,
                                             const NormConfig& config) {
  Parameters gradients;
  if (request.has_grad_weight()) {
    NORMD_ASSIGN_OR_RETURN(gradients.weight,
                           CheckedVectorFromWire("grad_weight", request.grad_weight(), config));
  }
  if (request.has_grad_bias()) {
    NORMD_ASSIGN_OR_RETURN(gradients.bias,
                           CheckedVectorFromWire("grad_bias", request.grad_bias(), config));
  }
  return gradients;
}

absl::StatusOr<Parameters> ParametersFromWire(const v1::Parameters& parameters) {
  Parameters values;
  if (parameters.has_weight()) {
    NORMD_ASSIGN_OR_RETURN(values.weight, VectorFromWire("weight", parameters.weight()));
  }
  if (parameters.has_bias()) {
    NORMD_ASSIGN_OR_RETURN(values.bias, VectorFromWire("bias", parameters.bias()));
  }
  return values;
}

absl::Status CheckParameterShapes(const v1::Parameters& parameters, const NormConfig& config) {
  if (parameters.has_weight()) {
    NORMD_RETURN_IF_ERROR(CheckVectorShape("weight", parameters.weight(), config));
  }
  if (parameters.has_bias()) {
    NORMD_RETURN_IF_ERROR(CheckVectorShape("bias", parameters.bias(), config));
  }
  return absl::OkStatus();
}

void ParameterToWire(absl::Span<const double> values, const NormConfig& config, v1::Tensor& wire) {
  if (config.parameter_dtype == DataType::kFloat64) {
    TensorToWire(DataType::kFloat64, WeightShape(config), values, wire);
  } else {
    TensorToWire(DataType::kFloat32, WeightShape(config),
                 std::vector<float>(values.begin(), values.end()), wire);
  }
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
    ParameterToWire(state.weight, state.config, *wire.mutable_parameters()->mutable_weight());
    if (HasBias(state.config)) {
      ParameterToWire(state.bias, state.config, *wire.mutable_parameters()->mutable_bias());
    }
  }
  if (state.running_stats.has_value()) {
    v1::RunningStats& stats = *wire.mutable_running_stats();
    stats.set_num_batches_tracked(state.running_stats->num_batches_tracked);
    if (full) {
      const absl::Span<const int64_t> shape = WeightShape(state.config);
      TensorToWire(DataType::kFloat64, shape, state.running_stats->mean,
                   *stats.mutable_running_mean());
      TensorToWire(DataType::kFloat64, shape, state.running_stats->var,
                   *stats.mutable_running_var());
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
  wire.set_optimizer_step(state.optimizer_step);
  if (state.calibration.has_value()) {
    CalibrationToWire(*state.calibration, *wire.mutable_calibration());
  }
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
    const std::string actual = EscapedAndCut(token);
    return MakeError(
        Reason::kPageTokenInvalid,
        absl::StrCat("page_token is '", actual,
                     "', expected one that ListStates gave for the prefix '", prefix, "'"),
        {{"field", "page_token"}, {"actual", actual}});
  }
  return std::string(after);
}

}  // namespace normd
