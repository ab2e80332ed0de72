#ifndef NORMD_CLIENT_CPP_CLIENT_IMPL_H_
#define NORMD_CLIENT_CPP_CLIENT_IMPL_H_

#include <memory>

#include "absl/status/status.h"
#include "client/cpp/client.h"
#include "client/cpp/retry.h"
#include "grpcpp/channel.h"
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

// Before a call that fails at once when there is no connection: lets a channel that failed before
// connect again, which it does only while somebody waits for it. Returns within a second.
void AwaitReconnection(grpc::Channel& channel);

// OK when the options of a stream are in range.
absl::Status CheckStreamOptions(int64_t window, int64_t held_bytes_max, const RetryOptions& retry);

// OK when a message of `bytes` bytes may be sent. Errors: MESSAGE_TOO_LARGE.
absl::Status CheckMessageBytes(int64_t bytes, int64_t message_bytes_max);

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_CLIENT_IMPL_H_
