#include "core/registry/state_pool.h"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace normd {
namespace {

// Enough for what a shared_ptr counts its holders with.
constexpr size_t kHolderCountBytes = 64;

}  // namespace

// A copy, and the memory in which its holders are counted: one that is made in the memory of
// another allocates nothing when its arrays fit.
struct StatePool::Pooled {
  explicit Pooled(const NormState& other) : state(other) {}

  alignas(std::max_align_t) std::byte holder_count[kHolderCountBytes];
  NormState state;
  std::shared_ptr<Idle> idle;  // where it goes; null while it is there
  int64_t bytes = 0;           // of memory, while it is there
};

// The states that nobody holds, until the pool is closed.
class StatePool::Idle {
 public:
  Idle(MemoryBudget* memory, int64_t bytes_max) : bytes_max_(bytes_max), memory_(memory) {}

  // One that is not much larger than `state`; null when there is none at hand.
  std::unique_ptr<Pooled> TakeFor(const NormState& state) ABSL_LOCKS_EXCLUDED(mutex_) {
    const int64_t bytes_max = 2 * (kBytesBeside + state.UnsharedMemoryBytes());
    std::unique_ptr<Pooled> taken;
    absl::MutexLock lock(&mutex_);
    if (copies_.empty()) return nullptr;
    taken = std::move(copies_.back());
    copies_.pop_back();
    Charge(-taken->bytes);
    // One that does not fit goes: the pool comes to hold what is asked for.
    if (taken->bytes > bytes_max) return nullptr;
    return taken;
  }

  void Put(std::unique_ptr<Pooled> copy) ABSL_LOCKS_EXCLUDED(mutex_) {
    // What others may share is not kept.
    copy->state.weight = {};
    copy->state.bias = {};
    copy->bytes = kBytesBeside + copy->state.MemoryBytes();
    absl::MutexLock lock(&mutex_);
    if (memory_ == nullptr || bytes_ + copy->bytes > bytes_max_ ||
        !memory_->HasRoom(MemoryUse::kWrites)) {
      return;
    }
    Charge(copy->bytes);
    copies_.push_back(std::move(copy));
  }

  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    Charge(-bytes_);
    copies_.clear();
    memory_ = nullptr;
  }

 private:
  // Of a Pooled, beside its state.
  static constexpr auto kBytesBeside = static_cast<int64_t>(sizeof(Pooled) - sizeof(NormState));

  void Charge(int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bytes_ += bytes;
    memory_->Add(MemoryUse::kWrites, bytes);
  }

  const int64_t bytes_max_;

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Pooled>> copies_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  MemoryBudget* memory_ ABSL_GUARDED_BY(mutex_);  // null: closed
};

// Gives shared_ptr the memory in which it counts the holders of a copy. It gives that back when
// none is left, as the last of all; so this is when the copy goes to the idle ones.
template <typename T>
class StatePool::HolderCountAllocator {
 public:
  using value_type = T;

  explicit HolderCountAllocator(Pooled* copy) : copy_(copy) {}
  template <typename Other>
  // Allocators of any two types convert. NOLINTNEXTLINE(google-explicit-constructor)
  HolderCountAllocator(const HolderCountAllocator<Other>& other) : copy_(other.copy_) {}

  T* allocate(size_t /*count*/) {
    static_assert(sizeof(T) <= kHolderCountBytes && alignof(T) <= alignof(std::max_align_t));
    return reinterpret_cast<T*>(copy_->holder_count);
  }
  void deallocate(T* /*holder_count*/, size_t /*count*/) {
    const std::shared_ptr<Idle> idle = std::move(copy_->idle);
    idle->Put(std::unique_ptr<Pooled>(copy_));
  }

  bool operator==(const HolderCountAllocator&) const = default;

 private:
  template <typename Other>
  friend class HolderCountAllocator;

  Pooled* copy_;
};

StatePool::StatePool(MemoryBudget* memory, int64_t bytes_max)
    : idle_(std::make_shared<Idle>(memory, bytes_max)) {}

StatePool::~StatePool() { idle_->Close(); }

std::shared_ptr<NormState> StatePool::Copy(const NormState& state) {
  std::unique_ptr<Pooled> copy = idle_->TakeFor(state);
  if (copy == nullptr) {
    copy = std::make_unique<Pooled>(state);
  } else {
    copy->state = state;
  }
  copy->idle = idle_;
  Pooled* const held = copy.release();
  const auto keep = [](NormState* /*state*/) {};
  return std::shared_ptr<NormState>(&held->state, keep, HolderCountAllocator<NormState>(held));
}

}  // namespace normd
