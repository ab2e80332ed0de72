#ifndef NORMD_CLIENT_CPP_CLIENT_IMPL_H_
#define NORMD_CLIENT_CPP_CLIENT_IMPL_H_

#include <chrono>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cpp/client.h"
#include "client/cpp/retry.h"
#include "client/cpp/wire_status.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "normd/v1/normalization_service.grpc.pb.h"
#include "normd/v1/state_service.grpc.pb.h"

namespace normd::client {

// What a client shares with its streams and watches. Constant after construction.
struct ClientImpl {
  ClientOptions options;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::StateService::Stub> states;
  std::unique_ptr<v1::NormalizationService::Stub> normalization;
};

std::chrono::system_clock::time_point After(absl::Duration timeout);

// Before a call that fails at once when there is no connection: lets a channel that failed before
// connect again, which it does only while somebody waits for it. Returns within a second.
void AwaitReconnection(grpc::Channel& channel);

// OK when the options of a stream are in range.
absl::Status CheckStreamOptions(int64_t window, int64_t held_bytes_max, const RetryOptions& retry);

// OK when a message of `bytes` bytes may be sent. Errors: MESSAGE_TOO_LARGE.
absl::Status CheckMessageBytes(int64_t bytes, int64_t message_bytes_max);

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

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_CLIENT_IMPL_H_
