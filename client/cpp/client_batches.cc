// The unary calls of the NormalizationService.

#include <string>
#include <utility>

#include "client/cpp/client.h"
#include "client/cpp/client_impl.h"
#include "client/cpp/convert.h"

namespace normd::client {
namespace {

using Stub = v1::NormalizationService::Stub;

// A call whose request may be large.
template <typename Request, typename Response>
absl::Status CallWithBatch(const ClientImpl& client,
                           grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                        Response*),
                           const Request& request, Response& response) {
  absl::Status status = CheckMessageBytes(static_cast<int64_t>(request.ByteSizeLong()),
                                          client.options.message_bytes_max);
  if (!status.ok()) return status;
  return Call(client, *client.normalization, method, request, response);
}

v1::TrainRequest MakeTrainRequest(absl::string_view state, const TrainOptions& options) {
  v1::TrainRequest request;
  request.set_state(std::string(state));
  request.set_producer_id(options.producer_id);
  request.set_sequence(options.sequence);
  request.set_return_output(options.return_output);
  request.set_return_moments(options.return_moments);
  request.set_calibrate(options.calibrate);
  request.set_calibration_id(options.calibration_id);
  request.set_durability(ToWire(options.durability));
  return request;
}

absl::StatusOr<TrainResult> CallTrain(const ClientImpl& client, const v1::TrainRequest& request) {
  v1::TrainResponse response;
  absl::Status status = CallWithBatch(client, &Stub::Train, request, response);
  if (!status.ok()) return status;
  absl::StatusOr<TrainResult> result = FromWire(std::move(response));
  if (result.ok()) result->state = request.state();
  return result;
}

}  // namespace

absl::StatusOr<TrainResult> Client::Train(absl::string_view state, const Batch& batch,
                                          const TrainOptions& options) {
  v1::TrainRequest request = MakeTrainRequest(state, options);
  *request.mutable_input() = ToWire(batch);
  return CallTrain(*impl_, request);
}

absl::StatusOr<TrainResult> Client::Train(absl::string_view state, const Moments& moments,
                                          const TrainOptions& options) {
  v1::TrainRequest request = MakeTrainRequest(state, options);
  *request.mutable_moments() = ToWire(moments);
  return CallTrain(*impl_, request);
}

absl::StatusOr<NormalizeResult> Client::Normalize(absl::string_view state, const Batch& batch) {
  v1::NormalizeRequest request;
  request.set_state(std::string(state));
  *request.mutable_input() = ToWire(batch);
  v1::NormalizeResponse response;
  absl::Status status = CallWithBatch(*impl_, &Stub::Normalize, request, response);
  if (!status.ok()) return status;
  absl::StatusOr<NormalizeResult> result = FromWire(std::move(response));
  if (result.ok()) result->state = std::string(state);
  return result;
}

absl::StatusOr<BackwardResult> Client::Backward(absl::string_view state, const Batch& input,
                                                const Batch& grad_output,
                                                const BackwardOptions& options) {
  v1::BackwardRequest request;
  request.set_state(std::string(state));
  *request.mutable_input() = ToWire(input);
  *request.mutable_grad_output() = ToWire(grad_output);
  request.set_mode(ToWire(options.mode));
  if (options.moments.has_value()) *request.mutable_moments() = ToWire(*options.moments);
  request.set_omit_grad_input(!options.return_grad_input);
  request.set_apply(options.apply);
  request.set_producer_id(options.apply_options.producer_id);
  request.set_sequence(options.apply_options.sequence);
  request.set_durability(ToWire(options.apply_options.durability));
  v1::BackwardResponse response;
  absl::Status status = CallWithBatch(*impl_, &Stub::Backward, request, response);
  if (!status.ok()) return status;
  absl::StatusOr<BackwardResult> result = FromWire(std::move(response));
  if (result.ok()) result->state = std::string(state);
  return result;
}

absl::StatusOr<ApplyResult> Client::ApplyGradients(
    absl::string_view state, std::optional<absl::Span<const double>> grad_weight,
    std::optional<absl::Span<const double>> grad_bias, const ApplyOptions& options) {
  v1::ApplyGradientsRequest request;
  request.set_state(std::string(state));
  request.set_producer_id(options.producer_id);
  request.set_sequence(options.sequence);
  request.set_durability(ToWire(options.durability));
  if (grad_weight.has_value()) *request.mutable_grad_weight() = NarrowVectorToWire(*grad_weight);
  if (grad_bias.has_value()) *request.mutable_grad_bias() = NarrowVectorToWire(*grad_bias);
  v1::ApplyGradientsResponse response;
  absl::Status status = CallWithBatch(*impl_, &Stub::ApplyGradients, request, response);
  if (!status.ok()) return status;
  ApplyResult result = FromWire(response);
  result.state = std::string(state);
  return result;
}

}  // namespace normd::client
