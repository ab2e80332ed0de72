// The calls of the StateService.

#include <string>
#include <utility>

#include "client/cpp/client.h"
#include "client/cpp/client_impl.h"
#include "client/cpp/convert.h"

namespace normd::client {
namespace {

// A call of the StateService that answers with a state.
template <typename Request>
absl::StatusOr<State> CallForState(const ClientImpl& client,
                                   grpc::Status (v1::StateService::Stub::*method)(
                                       grpc::ClientContext*, const Request&, v1::State*),
                                   const Request& request) {
  v1::State response;
  absl::Status status = Call(client, *client.states, method, request, response);
  if (!status.ok()) return status;
  return FromWire(response);
}

}  // namespace

absl::StatusOr<State> Client::CreateState(absl::string_view name, const StateConfig& config,
                                          const InitialValues& initial,
                                          const CreateOptions& options) {
  v1::CreateStateRequest request;
  request.set_replace(options.replace);
  request.set_etag(options.etag);
  v1::State& state = *request.mutable_state();
  state.set_name(std::string(name));
  *state.mutable_config() = ToWire(config);
  if (!initial.weight.empty()) {
    *state.mutable_parameters()->mutable_weight() = NarrowVectorToWire(initial.weight);
  }
  if (!initial.bias.empty()) {
    *state.mutable_parameters()->mutable_bias() = NarrowVectorToWire(initial.bias);
  }
  if (!initial.running_mean.empty()) {
    *state.mutable_running_stats()->mutable_running_mean() = VectorToWire(initial.running_mean);
  }
  if (!initial.running_var.empty()) {
    *state.mutable_running_stats()->mutable_running_var() = VectorToWire(initial.running_var);
  }
  if (initial.num_batches_tracked != 0) {
    state.mutable_running_stats()->set_num_batches_tracked(initial.num_batches_tracked);
  }
  return CallForState(*impl_, &v1::StateService::Stub::CreateState, request);
}

absl::StatusOr<State> Client::GetState(absl::string_view name, StateView view) {
  v1::GetStateRequest request;
  request.set_name(std::string(name));
  request.set_view(ToWire(view));
  return CallForState(*impl_, &v1::StateService::Stub::GetState, request);
}

absl::StatusOr<StatePage> Client::ListStates(const ListOptions& options) {
  v1::ListStatesRequest request;
  request.set_prefix(options.prefix);
  request.set_page_size(options.page_size);
  request.set_page_token(options.page_token);
  request.set_view(ToWire(options.view));
  v1::ListStatesResponse response;
  absl::Status status =
      Call(*impl_, *impl_->states, &v1::StateService::Stub::ListStates, request, response);
  if (!status.ok()) return status;
  StatePage page;
  for (const v1::State& wire : response.states()) {
    absl::StatusOr<State> state = FromWire(wire);
    if (!state.ok()) return state.status();
    page.states.push_back(*std::move(state));
  }
  page.damaged.assign(response.damaged().begin(), response.damaged().end());
  page.next_page_token = response.next_page_token();
  return page;
}

StateLister Client::ListAllStates(ListOptions options) {
  return StateLister(this, std::move(options));
}

absl::StatusOr<State> Client::UpdateState(absl::string_view name, const ConfigUpdate& update,
                                          absl::string_view etag) {
  v1::UpdateStateRequest request;
  request.mutable_state()->set_name(std::string(name));
  request.set_etag(std::string(etag));
  v1::NormConfig& config = *request.mutable_state()->mutable_config();
  google::protobuf::FieldMask& mask = *request.mutable_update_mask();
  if (update.eps.has_value()) {
    config.set_eps(*update.eps);
    mask.add_paths("config.eps");
  }
  if (update.momentum.has_value()) {
    config.set_momentum(*update.momentum);
    mask.add_paths("config.momentum");
  }
  if (update.cumulative_average) {
    config.set_cumulative_average(true);
    mask.add_paths("config.cumulative_average");
  }
  if (update.correction.has_value()) {
    config.set_running_var_correction(*update.correction);
    mask.add_paths("config.running_var_correction");
  }
  if (update.non_finite.has_value()) {
    config.set_non_finite(ToWire(*update.non_finite));
    mask.add_paths("config.non_finite");
  }
  if (update.optimizer.has_value()) *config.mutable_optimizer() = ToWire(*update.optimizer);
  if (update.optimizer.has_value() || update.remove_optimizer) mask.add_paths("config.optimizer");
  if (update.lr.has_value()) {
    config.mutable_optimizer()->set_lr(*update.lr);
    mask.add_paths("config.optimizer.lr");
  }
  return CallForState(*impl_, &v1::StateService::Stub::UpdateState, request);
}

absl::Status Client::DeleteState(absl::string_view name, absl::string_view etag) {
  v1::DeleteStateRequest request;
  request.set_name(std::string(name));
  request.set_etag(std::string(etag));
  google::protobuf::Empty response;
  return Call(*impl_, *impl_->states, &v1::StateService::Stub::DeleteState, request, response);
}

absl::StatusOr<State> Client::SetParameters(absl::string_view name,
                                            std::optional<absl::Span<const double>> weight,
                                            std::optional<absl::Span<const double>> bias,
                                            absl::string_view etag) {
  v1::SetParametersRequest request;
  request.set_name(std::string(name));
  request.set_etag(std::string(etag));
  v1::Parameters& parameters = *request.mutable_parameters();
  if (weight.has_value()) *parameters.mutable_weight() = NarrowVectorToWire(*weight);
  if (bias.has_value()) *parameters.mutable_bias() = NarrowVectorToWire(*bias);
  return CallForState(*impl_, &v1::StateService::Stub::SetParameters, request);
}

absl::StatusOr<State> Client::ResetRunningStats(absl::string_view name) {
  v1::ResetRunningStatsRequest request;
  request.set_name(std::string(name));
  return CallForState(*impl_, &v1::StateService::Stub::ResetRunningStats, request);
}

absl::StatusOr<State> Client::FreezeState(absl::string_view name, absl::string_view etag) {
  v1::FreezeStateRequest request;
  request.set_name(std::string(name));
  request.set_etag(std::string(etag));
  return CallForState(*impl_, &v1::StateService::Stub::FreezeState, request);
}

absl::StatusOr<State> Client::UnfreezeState(absl::string_view name, absl::string_view etag) {
  v1::UnfreezeStateRequest request;
  request.set_name(std::string(name));
  request.set_etag(std::string(etag));
  return CallForState(*impl_, &v1::StateService::Stub::UnfreezeState, request);
}

absl::StatusOr<State> Client::BeginCalibration(absl::string_view name, CalibrationMethod method,
                                               absl::string_view etag) {
  v1::BeginCalibrationRequest request;
  request.set_name(std::string(name));
  request.set_method(ToWire(method));
  request.set_etag(std::string(etag));
  return CallForState(*impl_, &v1::StateService::Stub::BeginCalibration, request);
}

absl::StatusOr<State> Client::CommitCalibration(absl::string_view name,
                                                absl::string_view calibration_id,
                                                absl::string_view etag) {
  v1::CommitCalibrationRequest request;
  request.set_name(std::string(name));
  request.set_calibration_id(std::string(calibration_id));
  request.set_etag(std::string(etag));
  return CallForState(*impl_, &v1::StateService::Stub::CommitCalibration, request);
}

absl::StatusOr<State> Client::AbortCalibration(absl::string_view name,
                                               absl::string_view calibration_id,
                                               absl::string_view etag) {
  v1::AbortCalibrationRequest request;
  request.set_name(std::string(name));
  request.set_calibration_id(std::string(calibration_id));
  request.set_etag(std::string(etag));
  return CallForState(*impl_, &v1::StateService::Stub::AbortCalibration, request);
}

}  // namespace normd::client
