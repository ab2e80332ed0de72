#include "server/message_stream.h"

#include <grpcpp/server_context.h>

#include <deque>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/error.h"
#include "server/grpc_status.h"

namespace normd {
namespace {

using BidiReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

class MessageStream final : public BidiReactor,
                            public LongCall,
                            public std::enable_shared_from_this<MessageStream> {
 public:
  MessageStream(MessageHandler* handler, const StreamLimits& limits, CallSet* calls)
      : handler_(handler), limits_(limits), calls_(calls) {}

  void Start() {
    // gRPC's hold; OnDone lets it go.
    self_ = shared_from_this();
    const absl::Status admitted = calls_->Add(self_);
    absl::MutexLock lock(&mutex_);
    if (!admitted.ok()) {
      FinishOnce(ToGrpcStatus(admitted));
    } else {
      Advance();
    }
  }

  void Drain() override {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    Advance();
  }

  void OnReadDone(bool ok) override {
    int64_t id = 0;
    grpc::ByteBuffer request;
    {
      absl::MutexLock lock(&mutex_);
      reading_ = false;
      if (!ok) half_closed_ = true;
      if (!ok || draining_ || ending_ || finished_) {
        // A message that comes while draining is not acknowledged: its client sends it again.
        Advance();
        return;
      }
      request.Swap(&read_buffer_);
      accepted_ = false;
      id = first_id_ + static_cast<int64_t>(slots_.size());
      Slot& slot = slots_.emplace_back();
      slot.bytes = static_cast<int64_t>(request.Length());
      bytes_ += slot.bytes;
    }
    handler_->Handle(request, std::make_shared<Call>(shared_from_this(), id));
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    bytes_ -= slots_.front().bytes;
    slots_.pop_front();
    ++first_id_;
    if (!ok) FinishOnce(grpc::Status::CANCELLED);
    Advance();
  }

  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    FinishOnce(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    calls_->Remove(this);
    self_.reset();
  }

 private:
  // A request in hand: its response once it is there, in the order of the requests.
  struct Slot {
    bool ready = false;
    absl::Status end;  // not OK: end the stream here instead
    grpc::ByteBuffer response;
    int64_t bytes = 0;
  };

  class Call final : public MessageCall {
   public:
    Call(std::shared_ptr<MessageStream> stream, int64_t id) : stream_(std::move(stream)), id_(id) {}

    void Accepted() override { stream_->OnAccepted(); }
    void Done(const absl::Status& status, grpc::ByteBuffer response) override {
      stream_->OnAnswer(id_, status, response);
    }

   private:
    const std::shared_ptr<MessageStream> stream_;
    const int64_t id_;
  };

  void OnAccepted() {
    absl::MutexLock lock(&mutex_);
    accepted_ = true;
    Advance();
  }

  void OnAnswer(int64_t id, const absl::Status& status, grpc::ByteBuffer& response) {
    absl::MutexLock lock(&mutex_);
    if (finished_) return;
    Slot& slot = slots_[static_cast<size_t>(id - first_id_)];
    slot.ready = true;
    if (EndsStream(status)) {
      slot.end = status;
      ending_ = true;
    }
    slot.bytes += static_cast<int64_t>(response.Length());
    bytes_ += static_cast<int64_t>(response.Length());
    slot.response.Swap(&response);
    Advance();
  }

  // Starts whatever can be started.
  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    if (!writing_ && !slots_.empty() && slots_.front().ready) {
      if (!slots_.front().end.ok()) {
        FinishOnce(ToGrpcStatus(slots_.front().end));
        return;
      }
      writing_ = true;
      grpc::WriteOptions options;
      // A hint that another write follows at once; without one behind it, it would stall. So would
      // the first write, which is done only when the initial metadata before it has been sent.
      if (first_id_ > 0 && slots_.size() > 1 && slots_[1].ready && slots_[1].end.ok()) {
        options.set_buffer_hint();
      }
      StartWrite(&slots_.front().response, options);
    }
    if (slots_.empty() && (half_closed_ || draining_)) {
      FinishOnce(half_closed_ ? grpc::Status::OK
                              : ToGrpcStatus(MakeError(Reason::kShuttingDown,
                                                       "the server is shutting down")));
      return;
    }
    if (!reading_ && accepted_ && !half_closed_ && !draining_ && !ending_ &&
        static_cast<int64_t>(slots_.size()) < limits_.messages_max && bytes_ < limits_.bytes_max) {
      reading_ = true;
      StartRead(&read_buffer_);
    }
  }

  void FinishOnce(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    Finish(status);
  }

  // Constant after construction.
  MessageHandler* const handler_;
  const StreamLimits limits_;
  CallSet* const calls_;
  std::shared_ptr<MessageStream> self_;

  absl::Mutex mutex_;
  grpc::ByteBuffer read_buffer_;  // gRPC's while reading_
  std::deque<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  int64_t first_id_ ABSL_GUARDED_BY(mutex_) = 0;  // of slots_.front()
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;     // of all slots
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;  // the response of slots_.front()
  bool accepted_ ABSL_GUARDED_BY(mutex_) = true;  // the last request has its place
  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  // An answer ends the stream. No message behind it may be handled: were it applied, the producer's
  // sequence would pass the one that was refused, and its resend would be taken for a duplicate.
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

class UnaryCall final : public MessageCall {
 public:
  UnaryCall(grpc::ServerUnaryReactor* reactor, grpc::ByteBuffer* response)
      : reactor_(reactor), response_(response) {}

  void Accepted() override {}
  void Done(const absl::Status& status, grpc::ByteBuffer response) override {
    if (status.ok()) response_->Swap(&response);
    reactor_->Finish(ToGrpcStatus(status));
  }

 private:
  grpc::ServerUnaryReactor* const reactor_;
  grpc::ByteBuffer* const response_;
};

}  // namespace

BidiReactor* StartMessageStream(MessageHandler* handler, const StreamLimits& limits,
                                CallSet* calls) {
  const auto stream = std::make_shared<MessageStream>(handler, limits, calls);
  stream->Start();
  return stream.get();
}

grpc::ServerUnaryReactor* StartMessageCall(MessageHandler* handler,
                                           grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  handler->Handle(*request, std::make_shared<UnaryCall>(reactor, response));
  return reactor;
}

}  // namespace normd
