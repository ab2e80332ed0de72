#ifndef NORMD_CORE_BASE_THREAD_POOL_H_
#define NORMD_CORE_BASE_THREAD_POOL_H_

#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace normd {

// Runs jobs that may block (disk reads) off the threads that may not. Thread-safe.
class ThreadPool {
 public:
  // REQUIRES: threads >= 1.
  explicit ThreadPool(int threads);
  // Runs what is queued, then joins.
  ~ThreadPool();

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Queues `job`; jobs start in the order of the calls. The queue has no bound: the caller has one.
  void Schedule(absl::AnyInvocable<void()> job);

 private:
  void Run();

  absl::Mutex mutex_;
  std::deque<absl::AnyInvocable<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Constant after construction.
  std::vector<std::thread> threads_;
};

}  // namespace normd

#endif  // NORMD_CORE_BASE_THREAD_POOL_H_
