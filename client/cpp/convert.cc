#include "client/cpp/convert.h"

#include <bit>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cpp/wire_status.h"

namespace normd::client {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors go to the wire as they lie");

template <typename T>
std::string Bytes(absl::Span<const T> values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

template <typename T>
absl::StatusOr<std::vector<T>> Values(const v1::Tensor& tensor, v1::DataType dtype) {
  if (tensor.dtype() != dtype || tensor.data().size() % sizeof(T) != 0) {
    return absl::InternalError(
        absl::StrCat("expected a tensor of ", v1::DataType_Name(dtype), " from the server, got ",
                     v1::DataType_Name(tensor.dtype()), " in ", tensor.data().size(), " bytes"));
  }
  std::vector<T> values(tensor.data().size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), tensor.data().data(), tensor.data().size());
  return values;
}

template <typename T>
absl::Status ReadVector(const v1::Tensor& tensor, v1::DataType dtype, std::vector<T>& values) {
  absl::StatusOr<std::vector<T>> read = Values<T>(tensor, dtype);
  if (!read.ok()) return read.status();
  values = *std::move(read);
  return absl::OkStatus();
}

template <typename T>
v1::Tensor MakeVector(v1::DataType dtype, absl::Span<const T> values) {
  v1::Tensor tensor;
  tensor.set_dtype(dtype);
  tensor.add_shape(static_cast<int64_t>(values.size()));
  tensor.set_data(Bytes(values));
  return tensor;
}

absl::Time FromWire(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

StateConfig FromWire(const v1::NormConfig& wire) {
  StateConfig config;
  config.num_features = wire.num_features();
  if (wire.has_eps()) config.eps = wire.eps();
  if (wire.has_momentum()) config.momentum = wire.momentum();
  if (wire.cumulative_average()) config.momentum = std::nullopt;
  if (wire.has_affine()) config.affine = wire.affine();
  if (wire.has_track_running_stats()) config.track_running_stats = wire.track_running_stats();
  if (wire.has_running_var_correction()) config.correction = wire.running_var_correction();
  config.non_finite =
      wire.non_finite() == v1::NormConfig::PROPAGATE ? NonFinite::kPropagate : NonFinite::kRefuse;
  return config;
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

v1::Tensor ToWire(const Batch& batch) {
  v1::Tensor tensor;
  tensor.set_dtype(v1::FLOAT32);
  tensor.set_layout(batch.layout() == Layout::kChannelsLast ? v1::CHANNELS_LAST
                                                            : v1::CHANNELS_FIRST);
  tensor.mutable_shape()->Add(batch.shape().begin(), batch.shape().end());
  tensor.set_data(Bytes(batch.values()));
  return tensor;
}

v1::Moments ToWire(const Moments& moments) {
  v1::Moments wire;
  wire.set_count(moments.count);
  wire.mutable_mean()->Add(moments.mean.begin(), moments.mean.end());
  wire.mutable_m2()->Add(moments.m2.begin(), moments.m2.end());
  return wire;
}

v1::NormConfig ToWire(const StateConfig& config) {
  v1::NormConfig wire;
  wire.set_kind(v1::NormConfig::BATCH_NORM);
  wire.set_num_features(config.num_features);
  wire.set_eps(config.eps);
  if (config.momentum.has_value()) {
    wire.set_momentum(*config.momentum);
  } else {
    wire.set_cumulative_average(true);
  }
  wire.set_affine(config.affine);
  wire.set_track_running_stats(config.track_running_stats);
  wire.set_running_var_correction(config.correction);
  wire.set_non_finite(ToWire(config.non_finite));
  return wire;
}

v1::StateView ToWire(StateView view) { return view == StateView::kFull ? v1::FULL : v1::BASIC; }

v1::Durability ToWire(Durability durability) {
  return durability == Durability::kRelaxed ? v1::RELAXED : v1::DURABLE;
}

v1::NormConfig::NonFinite ToWire(NonFinite policy) {
  return policy == NonFinite::kPropagate ? v1::NormConfig::PROPAGATE : v1::NormConfig::REFUSE;
}

v1::Tensor VectorToWire(absl::Span<const float> values) { return MakeVector(v1::FLOAT32, values); }

v1::Tensor VectorToWire(absl::Span<const double> values) { return MakeVector(v1::FLOAT64, values); }

absl::StatusOr<Batch> FromWire(const v1::Tensor& tensor) {
  absl::StatusOr<std::vector<float>> values = Values<float>(tensor, v1::FLOAT32);
  if (!values.ok()) return values.status();
  return Batch::Own(
      {tensor.shape().begin(), tensor.shape().end()}, *std::move(values),
      tensor.layout() == v1::CHANNELS_LAST ? Layout::kChannelsLast : Layout::kChannelsFirst);
}

Moments FromWire(const v1::Moments& wire) {
  return {
      wire.count(), {wire.mean().begin(), wire.mean().end()}, {wire.m2().begin(), wire.m2().end()}};
}

absl::StatusOr<State> FromWire(const v1::State& wire) {
  State state;
  state.name = wire.name();
  state.config = FromWire(wire.config());
  absl::Status status;
  if (wire.parameters().has_weight()) {
    status.Update(ReadVector(wire.parameters().weight(), v1::FLOAT32, state.weight));
  }
  if (wire.parameters().has_bias()) {
    status.Update(ReadVector(wire.parameters().bias(), v1::FLOAT32, state.bias));
  }
  if (wire.running_stats().has_running_mean()) {
    status.Update(ReadVector(wire.running_stats().running_mean(), v1::FLOAT64, state.running_mean));
  }
  if (wire.running_stats().has_running_var()) {
    status.Update(ReadVector(wire.running_stats().running_var(), v1::FLOAT64, state.running_var));
  }
  if (!status.ok()) return status;
  state.num_batches_tracked = wire.running_stats().num_batches_tracked();
  state.frozen = wire.frozen();
  state.revision = wire.revision();
  state.etag = wire.etag();
  state.create_time = FromWire(wire.create_time());
  state.update_time = FromWire(wire.update_time());
  state.producer_count = wire.producer_count();
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

absl::StatusOr<TrainResult> FromWire(const v1::TrainResponse& response) {
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
    absl::StatusOr<Batch> output = FromWire(response.output());
    if (!output.ok()) return output.status();
    result.output = *std::move(output);
  }
  return result;
}

absl::StatusOr<NormalizeResult> FromWire(const v1::NormalizeResponse& response) {
  NormalizeResult result;
  result.sequence = response.sequence();
  if (response.has_error()) {
    result.status = FromWire(response.error());
    return result;
  }
  absl::StatusOr<Batch> output = FromWire(response.output());
  if (!output.ok()) return output.status();
  result.output = *std::move(output);
  result.revision = response.revision();
  return result;
}

}  // namespace normd::client
