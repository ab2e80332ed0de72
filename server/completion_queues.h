#ifndef NORMD_SERVER_COMPLETION_QUEUES_H_
#define NORMD_SERVER_COMPLETION_QUEUES_H_

#include <grpcpp/completion_queue.h>
#include <grpcpp/server_builder.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace normd {

// What a completion queue reports; its address is the tag of an operation.
class QueueEvent {
 public:
  virtual ~QueueEvent() = default;

  // The operation has ended, on the thread of its queue. `ok` as gRPC has it for the operation.
  virtual void OnEvent(bool ok) = 0;
};

// A QueueEvent that calls a member function of the object that it is part of.
template <typename Owner>
class MemberEvent final : public QueueEvent {
 public:
  using Method = void (Owner::*)(bool ok);

  MemberEvent(Owner* owner, Method method) : owner_(owner), method_(method) {}

  void OnEvent(bool ok) override { (owner_->*method_)(ok); }

 private:
  Owner* const owner_;
  const Method method_;
};

// Who has put something off until its queue has no event to report.
class DeferredWork {
 public:
  virtual ~DeferredWork() = default;

  // On the thread of the queue.
  virtual void RunDeferred() = 0;
};

// A server's completion queues, each with a thread that waits for its events. Every tag on them is
// a QueueEvent.
class CompletionQueues {
 public:
  // Keeps a queue open for operations. Thread-compatible.
  class User {
   public:
    // A user of the queue at `index`.
    User(CompletionQueues* queues, size_t index);
    ~User();

    User(const User&) = delete;
    User& operator=(const User&) = delete;

    CompletionQueues* queues() const { return queues_; }
    size_t index() const { return index_; }
    grpc::ServerCompletionQueue* queue() const { return queues_->queues_[index_].get(); }

    // Has `work` run once the queue reports no further event at once, or has reported some more.
    // False, and nothing done, on another thread than the queue's.
    bool Defer(std::shared_ptr<DeferredWork> work) const;

   private:
    CompletionQueues* const queues_;
    const size_t index_;
  };

  // REQUIRES: count >= 1.
  CompletionQueues(grpc::ServerBuilder& builder, int count);
  // Waits until nobody uses the queues, and ends them. REQUIRES: the server has been shut down, or
  // never started.
  ~CompletionQueues();

  CompletionQueues(const CompletionQueues&) = delete;
  CompletionQueues& operator=(const CompletionQueues&) = delete;

  size_t size() const { return queues_.size(); }

  // Starts the threads. Called once, when the server has started.
  void Start();

 private:
  // Constant after construction.
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues_;

  std::vector<std::thread> threads_;
  absl::Mutex mutex_;
  int64_t users_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace normd

#endif  // NORMD_SERVER_COMPLETION_QUEUES_H_
