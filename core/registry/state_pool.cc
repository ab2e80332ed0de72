#include "core/registry/state_pool.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace normd {

// The states that nobody holds, until the pool is closed.
class StatePool::Idle {
 public:
  Idle(MemoryBudget* memory, int64_t bytes_max) : bytes_max_(bytes_max), memory_(memory) {}

  // One that is not much larger than `state`; null when there is none at hand.
  std::unique_ptr<NormState> TakeFor(const NormState& state) ABSL_LOCKS_EXCLUDED(mutex_) {
    Kept taken;
    absl::MutexLock lock(&mutex_);
    if (states_.empty()) return nullptr;
    taken = std::move(states_.back());
    states_.pop_back();
    Charge(-taken.bytes);
    // One that does not fit goes: the pool comes to hold what is asked for.
    if (taken.bytes > 2 * state.MemoryBytes()) return nullptr;
    return std::move(taken.state);
  }

  void Put(std::unique_ptr<NormState> state) ABSL_LOCKS_EXCLUDED(mutex_) {
    const int64_t bytes = state->MemoryBytes();
    absl::MutexLock lock(&mutex_);
    if (memory_ == nullptr || bytes_ + bytes > bytes_max_ ||
        !memory_->HasRoom(MemoryUse::kWrites)) {
      return;
    }
    Charge(bytes);
    states_.push_back({std::move(state), bytes});
  }

  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    Charge(-bytes_);
    states_.clear();
    memory_ = nullptr;
  }

 private:
  struct Kept {
    std::unique_ptr<NormState> state;
    int64_t bytes = 0;  // of memory
  };

  void Charge(int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bytes_ += bytes;
    memory_->Add(MemoryUse::kWrites, bytes);
  }

  const int64_t bytes_max_;

  absl::Mutex mutex_;
  std::vector<Kept> states_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  MemoryBudget* memory_ ABSL_GUARDED_BY(mutex_);  // null: closed
};

StatePool::StatePool(MemoryBudget* memory, int64_t bytes_max)
    : idle_(std::make_shared<Idle>(memory, bytes_max)) {}

StatePool::~StatePool() { idle_->Close(); }

std::shared_ptr<NormState> StatePool::Copy(const NormState& state) {
  std::unique_ptr<NormState> copy = idle_->TakeFor(state);
  if (copy == nullptr) {
    copy = std::make_unique<NormState>(state);
  } else {
    *copy = state;
  }
  return std::shared_ptr<NormState>(copy.release(), [idle = idle_](NormState* released) {
    idle->Put(std::unique_ptr<NormState>(released));
  });
}

}  // namespace normd
