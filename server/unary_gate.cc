#include "server/unary_gate.h"

#include <algorithm>

#include "core/base/error.h"

namespace normd {

absl::Status UnaryGate::Enter() {
  if (!closed_) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  ++refused_;
  return MakeError(Reason::kShuttingDown, "the server is shutting down");
}

void UnaryGate::AwaitQuiet(absl::Duration idle, absl::Duration quiet, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  absl::MutexLock lock(&mutex_);
  bool refused_more = true;
  while (refused_more && absl::Now() < deadline) {
    const auto refuses_more = [this, before = refused_] {
      mutex_.AssertReaderHeld();
      return refused_ > before;
    };
    const absl::Time quiet_time = absl::Now() + (refused_ == 0 ? idle : quiet);
    refused_more =
        mutex_.AwaitWithDeadline(absl::Condition(&refuses_more), std::min(quiet_time, deadline));
  }
}

}  // namespace normd
