#ifndef NORMD_SERVER_UNARY_GATE_H_
#define NORMD_SERVER_UNARY_GATE_H_

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace normd {

// Lets unary calls in until it is closed. gRPC ends the calls that wait for their turn when it is
// shut down, and those that come until their client hears of it, as CANCELLED without a word: so
// they are refused before, until no more come. Thread-safe.
class UnaryGate {
 public:
  UnaryGate() = default;

  UnaryGate(const UnaryGate&) = delete;
  UnaryGate& operator=(const UnaryGate&) = delete;

  // For every call that comes. Errors: SHUTTING_DOWN (closed).
  absl::Status Enter();

  void Close() { closed_ = true; }
  // Waits until none has been refused for `quiet`, for about `timeout` at most. Of a time for which
  // the process was kept from running little counts, if that does not happen often. REQUIRES:
  // closed.
  void AwaitQuiet(absl::Duration quiet, absl::Duration timeout);

 private:
  std::atomic<bool> closed_ = false;

  absl::Mutex mutex_;
  int64_t refused_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace normd

#endif  // NORMD_SERVER_UNARY_GATE_H_
