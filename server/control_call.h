#ifndef NORMD_SERVER_CONTROL_CALL_H_
#define NORMD_SERVER_CONTROL_CALL_H_

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "core/base/memory_budget.h"
#include "google/protobuf/message_lite.h"
#include "server/message_codec.h"
#include "server/message_handler.h"

namespace normd {

// One control request on its way to its answer. The transport counts the bytes of the request and
// of the answer that is sent; the call counts the answer while it is made. Thread-compatible.
class ControlCall {
 public:
  // `memory` outlives the call.
  ControlCall(MemoryBudget* memory, std::shared_ptr<MessageCall> transport)
      : memory_(memory, MemoryUse::kCalls), transport_(std::move(transport)) {}
  virtual ~ControlCall() = default;

  ControlCall(const ControlCall&) = delete;
  ControlCall& operator=(const ControlCall&) = delete;

  // Counts an answer that is about to be made, if there is room for one.
  [[nodiscard]] bool TryAddAnswer(int64_t bytes) {
    return memory_.TryResize(memory_.bytes() + bytes);
  }
  // Counts an answer that must be given.
  void AddAnswer(int64_t bytes) { memory_.Resize(memory_.bytes() + bytes); }

  // Answers, by one of the two. Called once, last.
  void Answer(const google::protobuf::MessageLite& response) {
    transport_->Done(absl::OkStatus(), SerializeMessage(response));
  }
  void Refuse(const absl::Status& status) { transport_->Done(status, grpc::ByteBuffer()); }

 private:
  MemoryReservation memory_;
  const std::shared_ptr<MessageCall> transport_;
};

// A control call whose request is a `Request`.
template <typename Request>
class ControlRequest final : public ControlCall {
 public:
  using ControlCall::ControlCall;

  // Errors: those of ParseMessage.
  absl::Status Parse(grpc::ByteBuffer* bytes, int64_t bytes_max) {
    return ParseMessage(bytes, bytes_max, request_);
  }

  const Request& request() const { return request_; }

 private:
  Request request_;
};

}  // namespace normd

#endif  // NORMD_SERVER_CONTROL_CALL_H_
