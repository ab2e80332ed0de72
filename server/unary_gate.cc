#include "server/unary_gate.h"

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
  constexpr int kPausesMax = 5;
  const absl::Duration step = quiet / 10;
  absl::Duration silence;
  absl::Duration waited;
  int pauses = 0;
  absl::MutexLock lock(&mutex_);
  while (silence < quiet && waited < timeout) {
    const auto refuses_more = [this, before = refused_] {
      mutex_.AssertReaderHeld();
      return refused_ > before;
    };
    const auto begin = std::chrono::steady_clock::now();
    const bool refused_more = mutex_.AwaitWithTimeout(absl::Condition(&refuses_more), step);
    const absl::Duration took = absl::FromChrono(std::chrono::steady_clock::now() - begin);
    const bool paused = took > 2 * step && ++pauses <= kPausesMax;
    waited += paused ? step : took;
    silence = refused_more || paused ? absl::ZeroDuration() : silence + took;
  }
}

}  // namespace normd
