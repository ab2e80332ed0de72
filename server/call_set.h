#ifndef NORMD_SERVER_CALL_SET_H_
#define NORMD_SERVER_CALL_SET_H_

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace normd {

// A call that lives until its client or the server ends it.
class LongCall {
 public:
  virtual ~LongCall() = default;

  // Takes no new work, answers what was taken and ends the call with SHUTTING_DOWN. Does not block.
  virtual void Drain() = 0;
};

// The long calls under way, at most so many. Thread-safe.
class CallSet {
 public:
  explicit CallSet(int64_t calls_max) : calls_max_(calls_max) {}

  CallSet(const CallSet&) = delete;
  CallSet& operator=(const CallSet&) = delete;

  // Takes a call in; it must be removed when it has ended. Errors: LIMIT_REACHED, SHUTTING_DOWN.
  absl::Status Add(const std::shared_ptr<LongCall>& call);
  // Does nothing when the call was not taken in.
  void Remove(const LongCall* call);

  // Refuses new calls and drains those under way.
  void Drain();
  // Waits until no call is left; false when `timeout` passed first.
  bool AwaitEmpty(absl::Duration timeout);

 private:
  const int64_t calls_max_;

  absl::Mutex mutex_;
  absl::flat_hash_map<const LongCall*, std::weak_ptr<LongCall>> calls_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace normd

#endif  // NORMD_SERVER_CALL_SET_H_
