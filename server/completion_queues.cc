#include "server/completion_queues.h"

namespace normd {
namespace {

// Until the queue is shut down and empty.
void Serve(grpc::ServerCompletionQueue* queue) {
  void* tag = nullptr;
  bool ok = false;
  while (queue->Next(&tag, &ok)) static_cast<QueueEvent*>(tag)->OnEvent(ok);
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
