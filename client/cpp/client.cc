#include "client/cpp/client.h"

#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/client_impl.h"
#include "client/cpp/convert.h"
#include "client/cpp/wire_status.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"

namespace normd::client {
namespace {

constexpr int64_t kMessageBytesMin = int64_t{64} << 10;
constexpr int64_t kMessageBytesMax = int64_t{1} << 30;
// An answer carries a little more than the values of its request.
constexpr int kAnswerExtraBytes = 64 << 10;

std::chrono::system_clock::time_point After(absl::Duration timeout) {
  return absl::ToChronoTime(absl::Now() + timeout);
}

grpc::ChannelArguments MakeChannelArguments(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxSendMessageSize(static_cast<int>(options.message_bytes_max));
  arguments.SetMaxReceiveMessageSize(static_cast<int>(options.message_bytes_max) +
                                     kAnswerExtraBytes);
  // A connection of its own: one that another client of the process knows to be lost would refuse
  // the first call of a new one.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // The channel's own waits, below those of the streams.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // How long one attempt to connect may take.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.keepalive_time)));
  // Also how long sent bytes may stay unacknowledged (TCP_USER_TIMEOUT).
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return arguments;
}

absl::Status CheckOptions(const ClientOptions& options) {
  if (options.address.empty()) return absl::InvalidArgumentError("expected an address, got none");
  if (options.call_timeout <= absl::ZeroDuration() || options.keepalive_time < absl::Seconds(1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a positive call_timeout and a keepalive_time of at least 1s, got ",
                     absl::FormatDuration(options.call_timeout), " and ",
                     absl::FormatDuration(options.keepalive_time)));
  }
  if (options.message_bytes_max < kMessageBytesMin ||
      options.message_bytes_max > kMessageBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("expected message_bytes_max in [",
                                                   kMessageBytesMin, ", ", kMessageBytesMax,
                                                   "], got ", options.message_bytes_max));
  }
  return absl::OkStatus();
}

// Waits for the channel. What the transport says of a failure comes only with a call, so one is
// made in the end.
absl::Status WaitForServer(const ClientImpl& client) {
  const auto deadline = After(client.options.connect_timeout);
  for (;;) {
    const grpc_connectivity_state state = client.channel->GetState(/*try_to_connect=*/true);
    if (state == GRPC_CHANNEL_READY) return absl::OkStatus();
    if (!client.channel->WaitForStateChange(state, deadline)) break;
  }
  grpc::ClientContext context;
  context.set_deadline(After(absl::Milliseconds(100)));
  v1::ListStatesRequest request;
  request.set_page_size(1);
  v1::ListStatesResponse response;
  const grpc::Status status = client.states->ListStates(&context, request, &response);
  if (status.ok()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot reach ", client.options.address, " within ",
                                             absl::FormatDuration(client.options.connect_timeout),
                                             "; last error: ", status.error_message()));
}

// One unary call with the client's deadline.
template <typename Stub, typename Request, typename Response>
absl::Status Call(const ClientImpl& client, Stub& stub,
                  grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                  const Request& request, Response& response) {
  AwaitReconnection(*client.channel);
  grpc::ClientContext context;
  context.set_deadline(After(client.options.call_timeout));
  return FromGrpc((stub.*method)(&context, request, &response));
}

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

v1::TrainRequest MakeTrainRequest(absl::string_view state, const TrainOptions& options) {
  v1::TrainRequest request;
  request.set_state(std::string(state));
  request.set_producer_id(options.producer_id);
  request.set_sequence(options.sequence);
  request.set_return_output(options.return_output);
  request.set_return_moments(options.return_moments);
  request.set_durability(ToWire(options.durability));
  return request;
}

absl::StatusOr<TrainResult> CallTrain(const ClientImpl& client, const v1::TrainRequest& request) {
  absl::Status status = CheckMessageBytes(static_cast<int64_t>(request.ByteSizeLong()),
                                          client.options.message_bytes_max);
  v1::TrainResponse response;
  if (status.ok()) {
    status = Call(client, *client.normalization, &v1::NormalizationService::Stub::Train, request,
                  response);
  }
  if (!status.ok()) return status;
  absl::StatusOr<TrainResult> result = FromWire(response);
  if (result.ok()) result->state = request.state();
  return result;
}

}  // namespace

void AwaitReconnection(grpc::Channel& channel) {
  if (channel.GetState(/*try_to_connect=*/true) != GRPC_CHANNEL_TRANSIENT_FAILURE) return;
  channel.WaitForStateChange(GRPC_CHANNEL_TRANSIENT_FAILURE, After(absl::Seconds(1)));
}

absl::Status CheckStreamOptions(int64_t window, int64_t held_bytes_max, const RetryOptions& retry) {
  if (window < 1 || held_bytes_max < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected a window and a held_bytes_max of at least 1, got ", window, " and ",
                     held_bytes_max));
  }
  const absl::Duration zero = absl::ZeroDuration();
  if (retry.backoff_initial <= zero || retry.backoff_max < retry.backoff_initial ||
      retry.retry_timeout < zero || retry.message_timeout <= zero) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expected 0 < backoff_initial <= backoff_max, retry_timeout >= 0 and message_timeout > 0, "
        "got ",
        absl::FormatDuration(retry.backoff_initial), ", ", absl::FormatDuration(retry.backoff_max),
        ", ", absl::FormatDuration(retry.retry_timeout), " and ",
        absl::FormatDuration(retry.message_timeout)));
  }
  return absl::OkStatus();
}

absl::Status CheckMessageBytes(int64_t bytes, int64_t message_bytes_max) {
  if (bytes <= message_bytes_max) return absl::OkStatus();
  return MakeLocalError(absl::StatusCode::kResourceExhausted, v1::MESSAGE_TOO_LARGE,
                        absl::StrCat("expected a message of at most ", message_bytes_max,
                                     " bytes (message_bytes_max of the client), got ", bytes));
}

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(const ClientOptions& options) {
  absl::Status status = CheckOptions(options);
  if (!status.ok()) return status;
  auto impl = std::make_unique<ClientImpl>();
  impl->options = options;
  impl->channel = grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(),
                                            MakeChannelArguments(options));
  impl->states = v1::StateService::NewStub(impl->channel);
  impl->normalization = v1::NormalizationService::NewStub(impl->channel);
  if (options.connect_timeout > absl::ZeroDuration()) {
    status = WaitForServer(*impl);
    if (!status.ok()) return status;
  }
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

Client::Client(std::unique_ptr<ClientImpl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

absl::StatusOr<State> Client::CreateState(absl::string_view name, const StateConfig& config,
                                          const InitialValues& initial) {
  v1::CreateStateRequest request;
  v1::State& state = *request.mutable_state();
  state.set_name(std::string(name));
  *state.mutable_config() = ToWire(config);
  if (!initial.weight.empty()) {
    *state.mutable_parameters()->mutable_weight() = VectorToWire(initial.weight);
  }
  if (!initial.bias.empty()) {
    *state.mutable_parameters()->mutable_bias() = VectorToWire(initial.bias);
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
                                            std::optional<absl::Span<const float>> weight,
                                            std::optional<absl::Span<const float>> bias,
                                            absl::string_view etag) {
  v1::SetParametersRequest request;
  request.set_name(std::string(name));
  request.set_etag(std::string(etag));
  if (weight.has_value()) *request.mutable_parameters()->mutable_weight() = VectorToWire(*weight);
  if (bias.has_value()) *request.mutable_parameters()->mutable_bias() = VectorToWire(*bias);
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
  absl::Status status = CheckMessageBytes(static_cast<int64_t>(request.ByteSizeLong()),
                                          impl_->options.message_bytes_max);
  v1::NormalizeResponse response;
  if (status.ok()) {
    status = Call(*impl_, *impl_->normalization, &v1::NormalizationService::Stub::Normalize,
                  request, response);
  }
  if (!status.ok()) return status;
  absl::StatusOr<NormalizeResult> result = FromWire(response);
  if (result.ok()) result->state = std::string(state);
  return result;
}

const std::string& Client::address() const { return impl_->options.address; }

}  // namespace normd::client
