#include "server/call_set.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"

namespace normd {

absl::Status CallSet::Add(const std::shared_ptr<LongCall>& call) {
  absl::MutexLock lock(&mutex_);
  if (draining_) return MakeError(Reason::kShuttingDown, "the server is shutting down");
  if (static_cast<int64_t>(calls_.size()) >= calls_max_) {
    return MakeError(
        Reason::kLimitReached,
        absl::StrCat(calls_.size(), " such streams are open, expected fewer than ", calls_max_),
        {{"limit", absl::StrCat(calls_max_)}});
  }
  calls_.emplace(call.get(), call);
  return absl::OkStatus();
}

void CallSet::Remove(const LongCall* call) {
  absl::MutexLock lock(&mutex_);
  calls_.erase(call);
}

void CallSet::Drain() {
  std::vector<std::shared_ptr<LongCall>> calls;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    for (const auto& [key, call] : calls_) {
      if (std::shared_ptr<LongCall> alive = call.lock()) calls.push_back(std::move(alive));
    }
  }
  for (const std::shared_ptr<LongCall>& call : calls) call->Drain();
}

bool CallSet::AwaitEmpty(absl::Duration timeout) {
  const auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return calls_.empty(); };
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&empty), timeout);
}

}  // namespace normd
