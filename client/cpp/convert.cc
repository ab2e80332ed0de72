#include "client/cpp/convert.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cpp/wire_status.h"

namespace normd::client {
namespace {

v1::DataType ToWire(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat64:
      return v1::FLOAT64;
    case DataType::kFloat16:
      return v1::FLOAT16;
    case DataType::kBfloat16:
      return v1::BFLOAT16;
    case DataType::kFloat32:
      break;
  }
  return v1::FLOAT32;
}

absl::StatusOr<DataType> FromWire(v1::DataType dtype) {
  switch (dtype) {
    case v1::FLOAT32:
      return DataType::kFloat32;
    case v1::FLOAT64:
      return DataType::kFloat64;
    case v1::FLOAT16:
      return DataType::kFloat16;
    case v1::BFLOAT16:
      return DataType::kBfloat16;
    default:
      return absl::InternalError(absl::StrCat("expected a tensor of a known dtype from the server,",
                                              " got dtype ", static_cast<int>(dtype)));
  }
}

v1::NormConfig::Kind ToWire(NormKind kind) {
  switch (kind) {
    case NormKind::kBatchNorm:
      break;
    case NormKind::kLayerNorm:
      return v1::NormConfig::LAYER_NORM;
    case NormKind::kGroupNorm:
      return v1::NormConfig::GROUP_NORM;
    case NormKind::kInstanceNorm:
      return v1::NormConfig::INSTANCE_NORM;
    case NormKind::kRmsNorm:
      return v1::NormConfig::RMS_NORM;
  }
  return v1::NormConfig::BATCH_NORM;
}

absl::StatusOr<NormKind> FromWire(v1::NormConfig::Kind kind) {
  switch (kind) {
    case v1::NormConfig::BATCH_NORM:
      return NormKind::kBatchNorm;
    case v1::NormConfig::LAYER_NORM:
      return NormKind::kLayerNorm;
    case v1::NormConfig::GROUP_NORM:
      return NormKind::kGroupNorm;
    case v1::NormConfig::INSTANCE_NORM:
      return NormKind::kInstanceNorm;
    case v1::NormConfig::RMS_NORM:
      return NormKind::kRmsNorm;
    default:
      return absl::InternalError(absl::StrCat("expected a state of a known kind from the server, ",
                                              "got kind ", static_cast<int>(kind)));
  }
}

v1::Optimizer::Algorithm ToWire(Optimizer::Algorithm algorithm) {
  switch (algorithm) {
    case Optimizer::Algorithm::kSgd:
      break;
    case Optimizer::Algorithm::kAdam:
      return v1::Optimizer::ADAM;
    case Optimizer::Algorithm::kAdamW:
      return v1::Optimizer::ADAMW;
  }
  return v1::Optimizer::SGD;
}

// Reads the values of `tensor` when it is there.
absl::Status ReadVector(bool is_there, const v1::Tensor& tensor, std::vector<double>& values) {
  if (!is_there) return absl::OkStatus();
  const absl::StatusOr<Batch> batch = client::FromWire(tensor);
  if (!batch.ok()) return batch.status();
  values = ToDoubles(*batch);
  return absl::OkStatus();
}

absl::Time FromWire(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

absl::StatusOr<Optimizer> FromWire(const v1::Optimizer& wire) {
  Optimizer optimizer;
  switch (wire.algorithm()) {
    case v1::Optimizer::SGD:
      break;
    case v1::Optimizer::ADAM:
      optimizer = Optimizer::Adam();
      break;
    case v1::Optimizer::ADAMW:
      optimizer = Optimizer::AdamW();
      break;
    default:
      return absl::InternalError(absl::StrCat("expected a known optimizer from the server, got ",
                                              static_cast<int>(wire.algorithm())));
  }
  if (wire.has_lr()) optimizer.lr = wire.lr();
  if (wire.has_momentum()) optimizer.momentum = wire.momentum();
  if (wire.has_dampening()) optimizer.dampening = wire.dampening();
  if (wire.has_nesterov()) optimizer.nesterov = wire.nesterov();
  if (wire.has_weight_decay()) optimizer.weight_decay = wire.weight_decay();
  if (wire.has_beta1()) optimizer.beta1 = wire.beta1();
  if (wire.has_beta2()) optimizer.beta2 = wire.beta2();
  if (wire.has_eps()) optimizer.eps = wire.eps();
  if (wire.has_amsgrad()) optimizer.amsgrad = wire.amsgrad();
  if (wire.has_maximize()) optimizer.maximize = wire.maximize();
  return optimizer;
}

absl::StatusOr<StateConfig> FromWire(const v1::NormConfig& wire) {
  const absl::StatusOr<NormKind> kind = FromWire(wire.kind());
  if (!kind.ok()) return kind.status();
  StateConfig config = StateConfig::Default(*kind);
  config.num_features = wire.num_features();
  if (wire.has_eps()) config.eps = wire.eps();
  if (wire.has_momentum()) config.momentum = wire.momentum();
  if (wire.cumulative_average()) config.momentum = std::nullopt;
  if (wire.has_affine()) config.affine = wire.affine();
  if (wire.has_track_running_stats()) config.track_running_stats = wire.track_running_stats();
  if (wire.has_running_var_correction()) config.correction = wire.running_var_correction();
  config.non_finite =
      wire.non_finite() == v1::NormConfig::PROPAGATE ? NonFinite::kPropagate : NonFinite::kRefuse;
  config.normalized_shape = {wire.normalized_shape().begin(), wire.normalized_shape().end()};
  config.num_groups = wire.num_groups();
  if (wire.parameter_dtype() == v1::FLOAT64) config.parameter_dtype = DataType::kFloat64;
  if (wire.has_optimizer()) {
    const absl::StatusOr<Optimizer> optimizer = FromWire(wire.optimizer());
    if (!optimizer.ok()) return optimizer.status();
    config.optimizer = *optimizer;
  }
  return config;
}

Calibration FromWire(const v1::Calibration& wire) {
  return {wire.method() == v1::Calibration::POOLED ? CalibrationMethod::kPooled
                                                   : CalibrationMethod::kMeanOfBatches,
          wire.num_batches(), wire.count(), wire.calibration_id()};
}

Disposition FromWire(v1::Disposition disposition) {
  switch (disposition) {
    case v1::APPLIED:
      return Disposition::kApplied;
    case v1::DUPLICATE:
      return Disposition::kDuplicate;
    default:
      return Disposition::kRefused;
  }
}

}  // namespace

v1::Tensor HeadToWire(const Batch& batch) {
  v1::Tensor tensor;
  tensor.set_dtype(ToWire(batch.dtype()));
  tensor.set_layout(batch.layout() == Layout::kChannelsLast ? v1::CHANNELS_LAST
                                                            : v1::CHANNELS_FIRST);
  tensor.mutable_shape()->Add(batch.shape().begin(), batch.shape().end());
  return tensor;
}

v1::Tensor ToWire(const Batch& batch) {
  v1::Tensor tensor = HeadToWire(batch);
  tensor.set_data(std::string(batch.bytes()));
  return tensor;
}

v1::Moments ToWire(const Moments& moments) {
  v1::Moments wire;
  wire.set_count(moments.count);
  wire.mutable_mean()->Add(moments.mean.begin(), moments.mean.end());
  wire.mutable_m2()->Add(moments.m2.begin(), moments.m2.end());
  return wire;
}

// What the kind does not have is sent where the caller has changed it, for the server to refuse.
v1::NormConfig ToWire(const StateConfig& config) {
  const StateConfig defaults = StateConfig::Default(config.kind);
  const bool can_track = CanTrack(config.kind);
  v1::NormConfig wire;
  wire.set_kind(ToWire(config.kind));
  wire.set_num_features(config.num_features);
  if (config.eps.has_value()) wire.set_eps(*config.eps);
  if (!config.momentum.has_value()) {
    wire.set_cumulative_average(true);
  } else if (can_track || config.momentum != defaults.momentum) {
    wire.set_momentum(*config.momentum);
  }
  wire.set_affine(config.affine);
  wire.set_track_running_stats(config.track_running_stats);
  if (can_track || config.correction != defaults.correction) {
    wire.set_running_var_correction(config.correction);
  }
  wire.set_non_finite(ToWire(config.non_finite));
  wire.mutable_normalized_shape()->Add(config.normalized_shape.begin(),
                                       config.normalized_shape.end());
  wire.set_num_groups(config.num_groups);
  wire.set_parameter_dtype(ToWire(config.parameter_dtype));
  if (config.optimizer.has_value()) *wire.mutable_optimizer() = ToWire(*config.optimizer);
  return wire;
}

v1::StateView ToWire(StateView view) { return view == StateView::kFull ? v1::FULL : v1::BASIC; }

v1::Durability ToWire(Durability durability) {
  return durability == Durability::kRelaxed ? v1::RELAXED : v1::DURABLE;
}

v1::NormConfig::NonFinite ToWire(NonFinite policy) {
  return policy == NonFinite::kPropagate ? v1::NormConfig::PROPAGATE : v1::NormConfig::REFUSE;
}

// What the algorithm does not have is sent where the caller has changed it, for the server to
// refuse.
v1::Optimizer ToWire(const Optimizer& optimizer) {
  const Optimizer defaults;
  const bool is_sgd = optimizer.algorithm == Optimizer::Algorithm::kSgd;
  v1::Optimizer wire;
  wire.set_algorithm(ToWire(optimizer.algorithm));
  wire.set_lr(optimizer.lr);
  wire.set_weight_decay(optimizer.weight_decay);
  wire.set_maximize(optimizer.maximize);
  if (is_sgd || optimizer.momentum != defaults.momentum) wire.set_momentum(optimizer.momentum);
  if (is_sgd || optimizer.dampening != defaults.dampening) wire.set_dampening(optimizer.dampening);
  if (is_sgd || optimizer.nesterov != defaults.nesterov) wire.set_nesterov(optimizer.nesterov);
  if (!is_sgd || optimizer.beta1 != defaults.beta1) wire.set_beta1(optimizer.beta1);
  if (!is_sgd || optimizer.beta2 != defaults.beta2) wire.set_beta2(optimizer.beta2);
  if (!is_sgd || optimizer.eps != defaults.eps) wire.set_eps(optimizer.eps);
  if (!is_sgd || optimizer.amsgrad != defaults.amsgrad) wire.set_amsgrad(optimizer.amsgrad);
  return wire;
}

v1::Calibration::Method ToWire(CalibrationMethod method) {
  return method == CalibrationMethod::kPooled ? v1::Calibration::POOLED
                                              : v1::Calibration::MEAN_OF_BATCHES;
}

v1::BackwardRequest::Mode ToWire(BackwardMode mode) {
  return mode == BackwardMode::kEval ? v1::BackwardRequest::EVAL : v1::BackwardRequest::TRAIN;
}

v1::Tensor VectorToWire(absl::Span<const double> values) {
  return ToWire(Batch::Borrow({static_cast<int64_t>(values.size())}, values));
}

v1::Tensor NarrowVectorToWire(absl::Span<const double> values) {
  std::vector<float> floats;
  floats.reserve(values.size());
  for (const double value : values) {
    floats.push_back(static_cast<float>(value));
    const bool is_exact = static_cast<double>(floats.back()) == value || value != value;
    if (!is_exact) return VectorToWire(values);
  }
  return ToWire(Batch::Own({static_cast<int64_t>(values.size())}, std::move(floats)));
}

absl::StatusOr<Batch> FromWire(v1::Tensor tensor) {
  const absl::StatusOr<DataType> dtype = FromWire(tensor.dtype());
  if (!dtype.ok()) return dtype.status();
  if (tensor.data().size() % static_cast<size_t>(ElementBytes(*dtype)) != 0) {
    return absl::InternalError(absl::StrCat("expected whole elements of ", DataTypeName(*dtype),
                                            " from the server, got ", tensor.data().size(),
                                            " bytes"));
  }
  return Batch::Own(
      {tensor.shape().begin(), tensor.shape().end()}, *dtype, std::move(*tensor.mutable_data()),
      tensor.layout() == v1::CHANNELS_LAST ? Layout::kChannelsLast : Layout::kChannelsFirst);
}

Moments FromWire(const v1::Moments& wire) {
  return {
      wire.count(), {wire.mean().begin(), wire.mean().end()}, {wire.m2().begin(), wire.m2().end()}};
}

absl::StatusOr<State> FromWire(const v1::State& wire) {
  State state;
  state.name = wire.name();
  absl::StatusOr<StateConfig> config = FromWire(wire.config());
  if (!config.ok()) return config.status();
  state.config = *std::move(config);
  const v1::Parameters& parameters = wire.parameters();
  const v1::RunningStats& stats = wire.running_stats();
  absl::Status status = ReadVector(parameters.has_weight(), parameters.weight(), state.weight);
  status.Update(ReadVector(parameters.has_bias(), parameters.bias(), state.bias));
  status.Update(ReadVector(stats.has_running_mean(), stats.running_mean(), state.running_mean));
  status.Update(ReadVector(stats.has_running_var(), stats.running_var(), state.running_var));
  if (!status.ok()) return status;
  state.num_batches_tracked = stats.num_batches_tracked();
  state.frozen = wire.frozen();
  state.revision = wire.revision();
  state.etag = wire.etag();
  state.create_time = FromWire(wire.create_time());
  state.update_time = FromWire(wire.update_time());
  state.producer_count = wire.producer_count();
  state.optimizer_step = wire.optimizer_step();
  if (wire.has_calibration()) state.calibration = FromWire(wire.calibration());
  return state;
}

StateEvent FromWire(const v1::WatchStatesResponse& wire) {
  StateEvent event;
  if (wire.event() == v1::WatchStatesResponse::CHANGED) event.kind = StateEvent::Kind::kChanged;
  if (wire.event() == v1::WatchStatesResponse::DELETED) event.kind = StateEvent::Kind::kDeleted;
  event.name = wire.name();
  event.revision = wire.revision();
  event.num_batches_tracked = wire.num_batches_tracked();
  event.etag = wire.etag();
  return event;
}

absl::StatusOr<TrainResult> FromWire(v1::TrainResponse response) {
  TrainResult result;
  result.sequence = response.sequence();
  if (response.has_error()) {
    result.status = FromWire(response.error());
    return result;
  }
  result.disposition = FromWire(response.disposition());
  result.revision = response.revision();
  result.num_batches_tracked = response.num_batches_tracked();
  result.durable_sequence = response.durable_sequence();
  if (response.has_moments()) result.moments = FromWire(response.moments());
  if (response.has_output()) {
    absl::StatusOr<Batch> output = FromWire(std::move(*response.mutable_output()));
    if (!output.ok()) return output.status();
    result.output = *std::move(output);
  }
  return result;
}

absl::StatusOr<NormalizeResult> FromWire(v1::NormalizeResponse response) {
  NormalizeResult result;
  result.sequence = response.sequence();
  if (response.has_error()) {
    result.status = FromWire(response.error());
    return result;
  }
  absl::StatusOr<Batch> output = FromWire(std::move(*response.mutable_output()));
  if (!output.ok()) return output.status();
  result.output = *std::move(output);
  result.revision = response.revision();
  return result;
}

absl::StatusOr<BackwardResult> FromWire(v1::BackwardResponse response) {
  BackwardResult result;
  result.sequence = response.sequence();
  if (response.has_error()) {
    result.status = FromWire(response.error());
    return result;
  }
  if (response.has_grad_input()) {
    absl::StatusOr<Batch> grad_input = FromWire(std::move(*response.mutable_grad_input()));
    if (!grad_input.ok()) return grad_input.status();
    result.grad_input = *std::move(grad_input);
  }
  absl::Status status =
      ReadVector(response.has_grad_weight(), response.grad_weight(), result.grad_weight);
  status.Update(ReadVector(response.has_grad_bias(), response.grad_bias(), result.grad_bias));
  if (!status.ok()) return status;
  result.disposition = FromWire(response.disposition());
  result.revision = response.revision();
  result.optimizer_step = response.optimizer_step();
  result.durable_sequence = response.durable_sequence();
  result.parameters_revision = response.parameters_revision();
  return result;
}

ApplyResult FromWire(const v1::ApplyGradientsResponse& response) {
  ApplyResult result;
  result.sequence = response.sequence();
  result.disposition = FromWire(response.disposition());
  result.revision = response.revision();
  result.optimizer_step = response.optimizer_step();
  result.durable_sequence = response.durable_sequence();
  return result;
}

}  // namespace normd::client
