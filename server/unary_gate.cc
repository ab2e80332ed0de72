#include "server/unary_gate.h"

#include "core/base/error.h"

namespace normd {

absl::Status UnaryGate::Enter() {
  if (!closed_) {
    if ((entered_.fetch_add(1, std::memory_order_relaxed) + 1) % kBusyCalls == 0) {
      busy_at_.store(absl::ToUnixNanos(absl::Now()), std::memory_order_relaxed);
    }
    return absl::OkStatus();
  }
  absl::MutexLock lock(&mutex_);
  ++refused_;
  return MakeError(Reason::kShuttingDown, "the server is shutting down");
}

void UnaryGate::AwaitQuiet(absl::Duration idle, absl::Duration quiet, absl::Duration timeout) {
  // Steps, since a process that gets to run again after a pause finds its time up before the calls
  // that waited with it have come: the pause is one step, and the next ones hear of them.
  constexpr int kSteps = 10;
  const absl::Time start = absl::Now();
  const bool busy = start - absl::FromUnixNanos(busy_at_) < absl::Seconds(1);
  absl::MutexLock lock(&mutex_);
  for (int step = 0; step < kSteps && absl::Now() < start + timeout;) {
    const auto refuses_more = [this, before = refused_] {
      mutex_.AssertReaderHeld();
      return refused_ > before;
    };
    const absl::Duration silence = busy || refused_ > 0 ? quiet : idle;
    const bool refused_more =
        mutex_.AwaitWithTimeout(absl::Condition(&refuses_more), silence / kSteps);
    step = refused_more ? 0 : step + 1;
  }
}

}  // namespace normd
