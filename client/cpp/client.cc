#include "client/cpp/client.h"

#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/client_impl.h"
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

}  // namespace

std::chrono::system_clock::time_point After(absl::Duration timeout) {
  return absl::ToChronoTime(absl::Now() + timeout);
}

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

const std::string& Client::address() const { return impl_->options.address; }

}  // namespace normd::client
