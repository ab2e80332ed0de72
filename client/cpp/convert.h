#ifndef NORMD_CLIENT_CPP_CONVERT_H_
#define NORMD_CLIENT_CPP_CONVERT_H_

#include "absl/status/statusor.h"
#include "client/cpp/batch.h"
#include "client/cpp/moments.h"
#include "client/cpp/result.h"
#include "client/cpp/state.h"
#include "client/cpp/state_watch.h"
#include "normd/v1/normalization_service.pb.h"
#include "normd/v1/state.pb.h"
#include "normd/v1/state_service.pb.h"
#include "normd/v1/tensor.pb.h"

// Value types to the wire and back. What comes from the server and makes no sense is kInternal.
namespace normd::client {

v1::Tensor ToWire(const Batch& batch);
v1::Moments ToWire(const Moments& moments);
v1::NormConfig ToWire(const StateConfig& config);
v1::StateView ToWire(StateView view);
v1::Durability ToWire(Durability durability);
v1::NormConfig::NonFinite ToWire(NonFinite policy);
// Vectors as tensors of shape [C].
v1::Tensor VectorToWire(absl::Span<const float> values);
v1::Tensor VectorToWire(absl::Span<const double> values);

absl::StatusOr<Batch> FromWire(const v1::Tensor& tensor);
Moments FromWire(const v1::Moments& moments);
absl::StatusOr<State> FromWire(const v1::State& state);
StateEvent FromWire(const v1::WatchStatesResponse& event);
// With the status of `response.error` when it is set. Leaves `state` empty.
absl::StatusOr<TrainResult> FromWire(const v1::TrainResponse& response);
absl::StatusOr<NormalizeResult> FromWire(const v1::NormalizeResponse& response);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_CONVERT_H_
