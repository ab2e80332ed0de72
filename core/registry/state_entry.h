#ifndef NORMD_CORE_REGISTRY_STATE_ENTRY_H_
#define NORMD_CORE_REGISTRY_STATE_ENTRY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/prefetch.h"
#include "core/registry/state_change.h"
#include "core/registry/state_draft.h"
#include "core/state/norm_state.h"

namespace normd {

// What is done with a state: an update copies it.
enum class StateUse { kRead, kUpdate };

// What the registry holds of one name: the value that readers see, and its place on the write path.
// There is one entry a name at a time: whoever reads or changes a state keeps it alive.
class StateEntry {
 public:
  // `published` is what is on disk; null: no such state.
  StateEntry(std::string name, std::shared_ptr<const NormState> published)
      : name_(std::move(name)), published_(published), write_(std::move(published)) {}

  const std::string& name() const { return name_; }

  // The value on disk; null when there is none. Thread-safe.
  std::shared_ptr<const NormState> published() const {
    absl::MutexLock lock(&mutex_);
    return published_;
  }

  // Asks the processor for the memory of that value, and for that of its arrays (see Prefetch); the
  // latter reads what the former has asked for. Thread-safe.
  void PrefetchPublished() const {
    absl::MutexLock lock(&mutex_);
    if (published_ == nullptr) return;
    // Its holders are counted right before it, by make_shared as a rule and by StatePool.
    Prefetch(reinterpret_cast<const char*>(published_.get()) - ABSL_CACHELINE_SIZE,
             ABSL_CACHELINE_SIZE + sizeof(NormState));
  }
  void PrefetchArrays(StateUse use) const {
    absl::MutexLock lock(&mutex_);
    if (published_ == nullptr) return;
    published_->PrefetchArrays();
    if (use == StateUse::kUpdate) published_->PrefetchForCopy();
  }

 private:
  friend class WriteCombiner;

  // The write path's view; guarded by the mutex of the one WriteCombiner that owns the name.
  struct Write {
    explicit Write(std::shared_ptr<const NormState> published)
        : sealed_revision(published == nullptr ? 0 : published->revision),
          draft(std::move(published)) {}

    // One change that is answered after the next commit, and what Apply said of it.
    struct Waiter {
      std::unique_ptr<StateChange> change;
      absl::Status status;
    };

    int64_t sealed_revision;  // what the store holds after the commits under way; 0: nothing
    StateDraft draft;
    std::vector<Waiter> waiters;
    bool queued = false;       // waits for the next commit
    bool committing = false;   // is in the commit under way
    int64_t queued_bytes = 0;  // what it counts in WriteCombiner::dirty_bytes_
  };

  // Makes `state` the value on disk, and returns that of before.
  std::shared_ptr<const NormState> Publish(std::shared_ptr<const NormState> state) {
    absl::MutexLock lock(&mutex_);
    return std::exchange(published_, std::move(state));
  }

  const std::string name_;

  mutable absl::Mutex mutex_;
  std::shared_ptr<const NormState> published_ ABSL_GUARDED_BY(mutex_);

  Write write_;
};

}  // namespace normd

#endif  // NORMD_CORE_REGISTRY_STATE_ENTRY_H_
