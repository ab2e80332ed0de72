#ifndef NORMD_CORE_STORE_STORE_HEALTH_H_
#define NORMD_CORE_STORE_STORE_HEALTH_H_

#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "core/store/event_sink.h"

namespace normd {

// How the commits of a store end, and whether another may be tried. Thread-safe.
class StoreHealth {
 public:
  // `directory` is the store's; what changes is told to `events`, which outlives the object.
  StoreHealth(std::string directory, EventSink* events)
      : directory_(std::move(directory)), events_(events) {}

  // OK, or kInternal after a commit that failed for good: nothing may be acknowledged any more.
  absl::Status CheckMayCommit() const;

  // A commit ended with `status`.
  void NoteCommit(const absl::Status& status);

 private:
  enum class Health {
    kGood,
    kFull,    // the last commit found no space
    kFailed,  // for good
  };

  const std::string directory_;
  EventSink* const events_;
  mutable absl::Mutex mutex_;
  Health health_ ABSL_GUARDED_BY(mutex_) = Health::kGood;
};

}  // namespace normd

#endif  // NORMD_CORE_STORE_STORE_HEALTH_H_
