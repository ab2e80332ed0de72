#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/base/error.h"
#include "server/grpc_status.h"
#include "server/message_method.h"
#include "server/serving_queue.h"

namespace normd {
namespace {

class MessageSubscription final : public LongCall,
                                  public std::enable_shared_from_this<MessageSubscription> {
 public:
  MessageSubscription(const SubscriptionMethod& method, ServingQueue* queue)
      : method_(method), queue_(queue) {}

  void Request() {
    // gRPC's hold, until the call has ended and nothing of it is on the queue.
    self_ = shared_from_this();
    // Nothing is read, so that nothing else tells of a client that has gone.
    context_.AsyncNotifyWhenDone(&on_done_);
    method_.request(&context_, &request_, &writer_, queue_.queue(), &on_request_);
  }

  void Drain() override {
    absl::MutexLock lock(&mutex_);
    FinishOnce(ToGrpcStatus(MakeError(Reason::kShuttingDown, "the server is shutting down")));
  }

 private:
  void OnRequest(bool ok) {
    if (!ok) {
      // No call came, and none will be told done.
      self_.reset();
      return;
    }
    ServeSubscriptions(method_, queue_.serving_queue());
    absl::StatusOr<std::unique_ptr<MessageSource>> source = Open();
    {
      absl::MutexLock lock(&mutex_);
      if (!source.ok()) {
        FinishOnce(ToGrpcStatus(source.status()));
      } else {
        source_ = *std::move(source);
        Greet();
      }
    }
    EndOperation();
  }

  absl::StatusOr<std::unique_ptr<MessageSource>> Open() {
    if (absl::Status status = method_.calls->Add(self_); !status.ok()) {
      request_.Clear();
      return status;
    }
    return method_.handler->Open(&request_, [this] {
      absl::MutexLock lock(&mutex_);
      Advance();
    });
  }

  // Tells the client that whatever comes from now on reaches it.
  void Greet() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    ++operations_;
    sending_ = true;
    writer_.SendInitialMetadata(&on_sent_);
  }

  // The initial metadata or a message.
  void OnSent(bool ok) {
    {
      absl::MutexLock lock(&mutex_);
      sending_ = false;
      if (!ok) FinishOnce(grpc::Status::CANCELLED);
      Advance();
    }
    EndOperation();
  }

  // The call has been answered, or its client has gone.
  void OnDone(bool /*ok*/) {
    {
      absl::MutexLock lock(&mutex_);
      FinishOnce(grpc::Status::CANCELLED);
    }
    EndOperation();
  }

  void OnFinish(bool /*ok*/) { EndOperation(); }

  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_ || sending_ || source_ == nullptr) return;
    grpc::ByteBuffer message;
    if (!source_->Next(&message)) return;
    ++operations_;
    sending_ = true;
    writer_.Write(message, &on_sent_);
  }

  void FinishOnce(const grpc::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (finished_) return;
    finished_ = true;
    ++operations_;
    writer_.Finish(status, &on_finish_);
  }

  // An operation that was on the queue has ended; with the last of them gRPC's hold does.
  void EndOperation() {
    {
      absl::MutexLock lock(&mutex_);
      if (--operations_ > 0) return;
    }
    // Without the lock, which the source may be waiting for.
    source_.reset();
    method_.calls->Remove(this);
    self_.reset();
  }

  // Constant after construction.
  const SubscriptionMethod& method_;
  const ServingQueue::User queue_;
  std::shared_ptr<MessageSubscription> self_;
  MemberEvent<MessageSubscription> on_request_{this, &MessageSubscription::OnRequest};
  MemberEvent<MessageSubscription> on_sent_{this, &MessageSubscription::OnSent};
  MemberEvent<MessageSubscription> on_done_{this, &MessageSubscription::OnDone};
  MemberEvent<MessageSubscription> on_finish_{this, &MessageSubscription::OnFinish};

  grpc::ServerContext context_;
  grpc::ByteBuffer request_;
  grpc::ServerAsyncWriter<grpc::ByteBuffer> writer_{&context_};

  absl::Mutex mutex_;
  std::unique_ptr<MessageSource> source_;         // set under mutex_, once
  int operations_ ABSL_GUARDED_BY(mutex_) = 2;    // on the queue; the request and on_done_ at first
  bool sending_ ABSL_GUARDED_BY(mutex_) = false;  // on_sent_ is to come
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

void ServeSubscriptions(const SubscriptionMethod& method, ServingQueue* queue) {
  std::make_shared<MessageSubscription>(method, queue)->Request();
}

}  // namespace normd
