#ifndef NORMD_SERVER_MEMORY_WAITERS_H_
#define NORMD_SERVER_MEMORY_WAITERS_H_

#include <atomic>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/memory_budget.h"

namespace normd {

// Streams that read no further until other streams have given memory back. Thread-safe.
class MemoryWaiters {
 public:
  class Waiter {
   public:
    virtual ~Waiter() = default;
    // There may be room. Called without locks.
    virtual void OnRoom() = 0;
  };

  // `budget` outlives this.
  explicit MemoryWaiters(MemoryBudget* budget) : budget_(budget) {}

  MemoryWaiters(const MemoryWaiters&) = delete;
  MemoryWaiters& operator=(const MemoryWaiters&) = delete;

  MemoryBudget* budget() const { return budget_; }

  // Whether a stream may read a message; if not, `waiter` is told when it may be tried again.
  bool HasRoomOrWait(std::weak_ptr<Waiter> waiter);

  // Memory was given back. The caller holds no lock of a waiter.
  void OnReleased();

 private:
  MemoryBudget* const budget_;

  std::atomic<bool> is_waited_ = false;
  absl::Mutex mutex_;
  std::vector<std::weak_ptr<Waiter>> waiters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace normd

#endif  // NORMD_SERVER_MEMORY_WAITERS_H_
