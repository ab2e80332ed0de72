#include <memory>
#include <utility>

#include "core/base/status_macros.h"
#include "server/grpc_status.h"
#include "server/message_method.h"
#include "server/serving_queue.h"

namespace normd {
namespace {

class UnaryCall final : public MessageCall, public std::enable_shared_from_this<UnaryCall> {
 public:
  UnaryCall(const UnaryMethod& method, ServingQueue* queue)
      : method_(method), queue_(queue), memory_(method.memory, MemoryUse::kCalls) {}

  void Request() {
    // gRPC's hold, until the call has finished.
    self_ = shared_from_this();
    method_.request(&context_, &request_, &writer_, queue_.queue(), &on_request_);
  }

  void Accepted() override {}

  void Done(const absl::Status& status, grpc::ByteBuffer response) override {
    memory_.Resize(method_.call_bytes + static_cast<int64_t>(response.Length()));
    if (status.ok()) {
      writer_.Finish(response, grpc::Status::OK, &on_finish_);
    } else {
      writer_.FinishWithError(ToGrpcStatus(status), &on_finish_);
    }
  }

 private:
  void OnRequest(bool ok) {
    if (!ok) {
      self_.reset();
      return;
    }
    ServeUnaryCalls(method_, queue_.serving_queue());
    if (const absl::Status status = Admit(); !status.ok()) {
      request_.Clear();
      Done(status, grpc::ByteBuffer());
      return;
    }
    HandleMessage(method_.handler, &request_, shared_from_this(), queue_.serving_queue());
  }

  absl::Status Admit() {
    if (method_.gate != nullptr) NORMD_RETURN_IF_ERROR(method_.gate->Enter());
    if (!memory_.TryResize(method_.call_bytes + static_cast<int64_t>(request_.Length()))) {
      return method_.memory->NoRoom(MemoryUse::kCalls);
    }
    return absl::OkStatus();
  }

  void OnFinish(bool /*ok*/) { self_.reset(); }

  const UnaryMethod& method_;
  const ServingQueue::User queue_;
  MemoryReservation memory_;
  std::shared_ptr<UnaryCall> self_;
  grpc::ServerContext context_;
  grpc::ByteBuffer request_;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> writer_{&context_};
  MemberEvent<UnaryCall> on_request_{this, &UnaryCall::OnRequest};
  MemberEvent<UnaryCall> on_finish_{this, &UnaryCall::OnFinish};
};

}  // namespace

void ServeUnaryCalls(const UnaryMethod& method, ServingQueue* queue) {
  std::make_shared<UnaryCall>(method, queue)->Request();
}

}  // namespace normd
