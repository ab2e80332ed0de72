#include "server/memory_waiters.h"

#include <utility>

namespace normd {

bool MemoryWaiters::HasRoomOrWait(std::weak_ptr<Waiter> waiter) {
  if (budget_->HasRoom(MemoryUse::kStreams)) return true;
  {
    absl::MutexLock lock(&mutex_);
    waiters_.push_back(std::move(waiter));
    is_waited_.store(true, std::memory_order_relaxed);
  }
  // Either this sees what OnReleased gave back, or OnReleased sees the waiter.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return budget_->HasRoom(MemoryUse::kStreams);
}

void MemoryWaiters::OnReleased() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!is_waited_.load(std::memory_order_relaxed)) return;
  if (!budget_->HasRoom(MemoryUse::kStreams)) return;
  std::vector<std::weak_ptr<Waiter>> waiters;
  {
    absl::MutexLock lock(&mutex_);
    waiters.swap(waiters_);
    is_waited_.store(false, std::memory_order_relaxed);
  }
  for (const std::weak_ptr<Waiter>& waiter : waiters) {
    if (const std::shared_ptr<Waiter> alive = waiter.lock()) alive->OnRoom();
  }
}

}  // namespace normd
