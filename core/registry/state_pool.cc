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

// A state, and the memory in which its holders are counted: a copy that is made in the memory of
// another one allocates nothing.
struct StatePool::Kept {
  explicit Kept(const NormState& other) : state(other) {}

  NormState state;
  std::shared_ptr<Idle> idle;  // where it goes; null while it is there
  alignas(std::max_align_t) std::byte holder_count[kHolderCountBytes];
};

// The states that nobody holds, until the pool is closed.
class StatePool::Idle {
 public:
  Idle(MemoryBudget* memory, int64_t bytes_max) : bytes_max_(bytes_max), memory_(memory) {}

  // One that is not much larger than `state`; null when there is none at hand.
  std::unique_ptr<Kept> TakeFor(const NormState& state) ABSL_LOCKS_EXCLUDED(mutex_) {
    const int64_t bytes_max = 2 * BytesOf(state);
    Place taken;
    absl::MutexLock lock(&mutex_);
    if (places_.empty()) return nullptr;
    taken = std::move(places_.back());
    places_.pop_back();
    Charge(-taken.bytes);
    // One that does not fit goes: the pool comes to hold what is asked for.
    if (taken.bytes > bytes_max) return nullptr;
    return std::move(taken.kept);
  }

  void Put(std::unique_ptr<Kept> kept) ABSL_LOCKS_EXCLUDED(mutex_) {
    const int64_t bytes = BytesOf(kept->state);
    absl::MutexLock lock(&mutex_);
    if (memory_ == nullptr || bytes_ + bytes > bytes_max_ ||
        !memory_->HasRoom(MemoryUse::kWrites)) {
      return;
    }
    Charge(bytes);
    places_.push_back({std::move(kept), bytes});
  }

  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    Charge(-bytes_);
    places_.clear();
    memory_ = nullptr;
  }

 private:
  struct Place {
    std::unique_ptr<Kept> kept;
    int64_t bytes = 0;  // of memory
  };

  static int64_t BytesOf(const NormState& state) {
    return static_cast<int64_t>(sizeof(Kept) - sizeof(NormState)) + state.MemoryBytes();
  }

  void Charge(int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bytes_ += bytes;
    memory_->Add(MemoryUse::kWrites, bytes);
  }

  const int64_t bytes_max_;

  absl::Mutex mutex_;
  std::vector<Place> places_ ABSL_GUARDED_BY(mutex_);
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  MemoryBudget* memory_ ABSL_GUARDED_BY(mutex_);  // null: closed
};

// Where shared_ptr counts the holders of a copy. It gives this memory back when none is left, as
// the last of all; so that is when the copy goes to the idle ones.
template <typename T>
class StatePool::HolderCount {
 public:
  using value_type = T;

  explicit HolderCount(Kept* kept) : kept_(kept) {}
  template <typename Other>
  // Allocators of any two types convert. NOLINTNEXTLINE(google-explicit-constructor)
  HolderCount(const HolderCount<Other>& other) : kept_(other.kept_) {}

  T* allocate(size_t /*count*/) {
    static_assert(sizeof(T) <= kHolderCountBytes && alignof(T) <= alignof(std::max_align_t));
    return reinterpret_cast<T*>(kept_->holder_count);
  }
  void deallocate(T* /*holder_count*/, size_t /*count*/) {
    const std::shared_ptr<Idle> idle = std::move(kept_->idle);
    idle->Put(std::unique_ptr<Kept>(kept_));
  }

  bool operator==(const HolderCount&) const = default;

 private:
  template <typename Other>
  friend class HolderCount;

  Kept* kept_;
};

StatePool::StatePool(MemoryBudget* memory, int64_t bytes_max)
    : idle_(std::make_shared<Idle>(memory, bytes_max)) {}

StatePool::~StatePool() { idle_->Close(); }

std::shared_ptr<NormState> StatePool::Copy(const NormState& state) {
  std::unique_ptr<Kept> kept = idle_->TakeFor(state);
  if (kept == nullptr) {
    kept = std::make_unique<Kept>(state);
  } else {
    kept->state = state;
  }
  kept->idle = idle_;
  Kept* const copy = kept.release();
  const auto keep = [](NormState* /*state*/) {};
  return std::shared_ptr<NormState>(&copy->state, keep, HolderCount<NormState>(copy));
}

}  // namespace normd
