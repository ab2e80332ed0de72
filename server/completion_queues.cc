#include "server/completion_queues.h"

#include <grpc/support/time.h>

#include <utility>

namespace normd {
namespace {

// Events that deferred work waits for at most.
constexpr int kEventsBeforeDeferredMax = 32;

// What is deferred on the queue of this thread.
struct Deferred {
  const grpc::ServerCompletionQueue* queue = nullptr;
  std::vector<std::shared_ptr<DeferredWork>> work;
  int events = 0;  // since the first of them
};
thread_local Deferred deferred;

void RunDeferred() {
  std::vector<std::shared_ptr<DeferredWork>> work;
  work.swap(deferred.work);
  deferred.events = 0;
  for (const std::shared_ptr<DeferredWork>& each : work) each->RunDeferred();
}

// Until the queue is shut down and empty.
void Serve(grpc::ServerCompletionQueue* queue) {
  deferred.queue = queue;
  void* tag = nullptr;
  bool ok = false;
  for (;;) {
    const gpr_timespec deadline = deferred.work.empty() ? gpr_inf_future(GPR_CLOCK_REALTIME)
                                                        : gpr_inf_past(GPR_CLOCK_REALTIME);
    const grpc::CompletionQueue::NextStatus next = queue->AsyncNext(&tag, &ok, deadline);
    if (next == grpc::CompletionQueue::SHUTDOWN) break;
    if (next == grpc::CompletionQueue::GOT_EVENT) static_cast<QueueEvent*>(tag)->OnEvent(ok);
    if (deferred.work.empty()) continue;
    if (next == grpc::CompletionQueue::TIMEOUT || ++deferred.events > kEventsBeforeDeferredMax) {
      RunDeferred();
    }
  }
}

}  // namespace

CompletionQueues::User::User(CompletionQueues* queues, size_t index)
    : queues_(queues), index_(index) {
  absl::MutexLock lock(&queues_->mutex_);
  ++queues_->users_;
}

CompletionQueues::User::~User() {
  absl::MutexLock lock(&queues_->mutex_);
  --queues_->users_;
}

bool CompletionQueues::User::Defer(std::shared_ptr<DeferredWork> work) const {
  if (deferred.queue != queue()) return false;
  deferred.work.push_back(std::move(work));
  return true;
}

CompletionQueues::CompletionQueues(grpc::ServerBuilder& builder, int count) {
  for (int i = 0; i < count; ++i) queues_.push_back(builder.AddCompletionQueue());
}

CompletionQueues::~CompletionQueues() {
  if (threads_.empty()) Start();
  {
    const auto is_unused = [this] {
      mutex_.AssertReaderHeld();
      return users_ == 0;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&is_unused));
  }
  for (const auto& queue : queues_) queue->Shutdown();
  for (std::thread& thread : threads_) thread.join();
}

void CompletionQueues::Start() {
  for (const auto& queue : queues_) threads_.emplace_back(Serve, queue.get());
}

}  // namespace normd
