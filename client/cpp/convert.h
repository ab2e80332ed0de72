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
v1::Optimizer ToWire(const Optimizer& optimizer);
v1::Calibration::Method ToWire(CalibrationMethod method);
v1::BackwardRequest::Mode ToWire(BackwardMode mode);
// A batch without its bytes.
v1::Tensor HeadToWire(const Batch& batch);
// A vector as a tensor of shape [C].
v1::Tensor VectorToWire(absl::Span<const double> values);
// The same in float32 where that loses nothing.
v1::Tensor NarrowVectorToWire(absl::Span<const double> values);

absl::StatusOr<Batch> FromWire(v1::Tensor tensor);
Moments FromWire(const v1::Moments& moments);
absl::StatusOr<State> FromWire(const v1::State& state);
StateEvent FromWire(const v1::WatchStatesResponse& event);
// With the status of `response.error` when it is set. Leaves `state` empty.
absl::StatusOr<TrainResult> FromWire(v1::TrainResponse response);
absl::StatusOr<NormalizeResult> FromWire(v1::NormalizeResponse response);
absl::StatusOr<BackwardResult> FromWire(v1::BackwardResponse response);
ApplyResult FromWire(const v1::ApplyGradientsResponse& response);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_CONVERT_H_
