#include "server/unary_gate.h"

#include <algorithm>
#include <chrono>

#include "core/base/error.h"

namespace normd {

absl::Status UnaryGate::Enter() {
  if (!closed_) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  ++refused_;
  return MakeError(Reason::kShuttingDown, "the server is shutting down");
}

void UnaryGate::AwaitQuiet(absl::Duration quiet, absl::Duration timeout) {
  // In steps, of which one that took far too long is no silence: a process that gets to run again
  // after a pause finds its time up before the calls that waited with it have come.
  const absl::Duration step = quiet / 10;
  absl::Duration silence;
  absl::Duration waited;
  absl::MutexLock lock(&mutex_);
  while (silence < quiet && waited < timeout) {
    const auto refuses_more = [this, before = refused_] {
      mutex_.AssertReaderHeld();
      return refused_ > before;
    };
    const auto begin = std::chrono::steady_clock::now();
    const bool refused_more = mutex_.AwaitWithTimeout(absl::Condition(&refuses_more), step);
    const absl::Duration took = absl::FromChrono(std::chrono::steady_clock::now() - begin);
    waited += std::min(took, step);
    silence = refused_more || took > 2 * step ? absl::ZeroDuration() : silence + took;
  }
}

}  // namespace normd
