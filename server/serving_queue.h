#ifndef NORMD_SERVER_SERVING_QUEUE_H_
#define NORMD_SERVER_SERVING_QUEUE_H_

#include <grpcpp/completion_queue.h>
#include <grpcpp/server_builder.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace normd {

// What a completion queue reports; its address is the tag of an operation.
class QueueEvent {
 public:
  virtual ~QueueEvent() = default;

  // The operation has ended, on a thread of its queue. `ok` as gRPC has it for the operation.
  virtual void OnEvent(bool ok) = 0;

  // The call that the operation is part of; for telling calls apart alone.
  virtual const void* call() const = 0;
};

// A QueueEvent that calls a member function of the call that it is part of, which it keeps alive
// until that returns. Owner is a std::enable_shared_from_this.
template <typename Owner>
class MemberEvent final : public QueueEvent {
 public:
  using Method = void (Owner::*)(bool ok);

  MemberEvent(Owner* owner, Method method) : owner_(owner), method_(method) {}

  void OnEvent(bool ok) override {
    const std::shared_ptr<Owner> owner = owner_->shared_from_this();
    (owner_->*method_)(ok);
  }

  const void* call() const override { return owner_; }

 private:
  Owner* const owner_;
  const Method method_;
};

// Who has put something off until the queue has no event to report.
class DeferredWork {
 public:
  virtual ~DeferredWork() = default;

  // On the thread that put it off; may put off more.
  virtual void RunDeferred() = 0;
};

// A server's completion queue and the threads that wait for its events. Every tag on it is a
// QueueEvent. gRPC hands each event from the thread that polls to one that waits, which costs more
// than the event where there is little to do: so one thread serves alone, and others join it when
// it is busy with several calls or with a long one, and rest again when they have little to do.
// Thread-safe.
class ServingQueue {
 public:
  // Keeps the queue open for operations. Thread-compatible.
  class User {
   public:
    explicit User(ServingQueue* queue);
    ~User();

    User(const User&) = delete;
    User& operator=(const User&) = delete;

    ServingQueue* serving_queue() const { return queue_; }
    grpc::ServerCompletionQueue* queue() const { return queue_->queue_.get(); }

    // Has `work` run once the queue reports no further event at once, or has reported some more.
    // False, and nothing done, on another thread than the queue's.
    bool Defer(std::shared_ptr<DeferredWork> work) const;

   private:
    ServingQueue* const queue_;
  };

  // REQUIRES: threads_max >= 1.
  ServingQueue(grpc::ServerBuilder& builder, int threads_max);
  // Waits until nobody uses the queue, and ends it. REQUIRES: the server has been shut down, or
  // never started.
  ~ServingQueue();

  ServingQueue(const ServingQueue&) = delete;
  ServingQueue& operator=(const ServingQueue&) = delete;

  // That the calling thread, one of the queue's, will be busy for long: what it has put off is done
  // first, and until the end of the object another thread waits for events, if there is one left.
  class LongWork {
   public:
    explicit LongWork(ServingQueue* queue);
    ~LongWork();

    LongWork(const LongWork&) = delete;
    LongWork& operator=(const LongWork&) = delete;

   private:
    ServingQueue* const queue_;
  };

  // Starts the threads. Called once, when the server has started.
  void Start();

  // Has `work` run on a thread of the queue, soon and in the order of the calls, though on several
  // threads it may overlap.
  void Post(absl::AnyInvocable<void()> work);

 private:
  class Posted;

  // Serves until the queue has ended. `rests`: joins only when woken.
  void Run(bool rests);
  // Waits to be woken, unless all others that do not rest are busy for long; false when the queue
  // has ended.
  bool Rest();
  // Has a thread that rests, if any does, wait for events.
  void WakeThread();

  // Constant after construction.
  const int threads_max_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;

  std::vector<std::thread> threads_;
  std::atomic<int> resting_ = 0;

  absl::Mutex mutex_;
  int64_t users_ ABSL_GUARDED_BY(mutex_) = 0;
  int wakes_ ABSL_GUARDED_BY(mutex_) = 0;  // threads that are to stop resting; at most resting_
  int long_works_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace normd

#endif  // NORMD_SERVER_SERVING_QUEUE_H_
