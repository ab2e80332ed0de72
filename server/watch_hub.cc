#include "server/watch_hub.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"

namespace normd {
namespace {

// About how many bytes of memory an event takes that waits: its name twice, and what is around.
int64_t EventBytes(absl::string_view name) {
  constexpr int64_t kBytesBesideNames = 256;
  return kBytesBesideNames + 2 * static_cast<int64_t>(name.size());
}

}  // namespace

void PendingEvents::Put(StateEvent event) {
  const auto it = newest_.find(event.name);
  if (it != newest_.end()) {
    it->second = std::move(event);
    return;
  }
  const int64_t bytes = EventBytes(event.name);
  if (static_cast<int64_t>(order_.size()) >= states_max_ ||
      !memory_.TryResize(memory_.bytes() + bytes)) {
    MarkMissed();
    // No room even so: others have it all. That something was missed tells of this event too.
    if (!memory_.TryResize(bytes)) return;
  }
  order_.push_back(event.name);
  newest_.emplace(order_.back(), std::move(event));
}

void PendingEvents::MarkMissed() {
  order_.clear();
  newest_.clear();
  memory_.Resize(0);
  missed_ = true;
}

bool PendingEvents::Take(StateEvent& event, bool* missed) {
  *missed = std::exchange(missed_, false);
  if (*missed) return true;
  if (order_.empty()) return false;
  auto node = newest_.extract(order_.front());
  order_.pop_front();
  memory_.Resize(memory_.bytes() - EventBytes(node.key()));
  event = std::move(node.mapped());
  return true;
}

WatchHub::WatchHub(int64_t pending_states_max, MemoryBudget* memory)
    : memory_(memory), pending_(pending_states_max, memory), thread_([this] { Run(); }) {}

WatchHub::~WatchHub() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    wake_.Signal();
  }
  thread_.join();
}

int64_t WatchHub::Subscribe(absl::string_view prefix, Sink sink) {
  absl::MutexLock lock(&sinks_mutex_);
  const int64_t number = next_number_++;
  subscriptions_.push_back(
      {.number = number, .prefix = std::string(prefix), .sink = std::move(sink)});
  subscription_count_.fetch_add(1);
  return number;
}

void WatchHub::Unsubscribe(int64_t subscription) {
  absl::MutexLock lock(&sinks_mutex_);
  const auto it =
      std::find_if(subscriptions_.begin(), subscriptions_.end(),
                   [subscription](const Subscription& s) { return s.number == subscription; });
  if (it == subscriptions_.end()) return;
  subscriptions_.erase(it);
  subscription_count_.fetch_sub(1);
}

void WatchHub::Publish(const std::string& name, const std::shared_ptr<const NormState>& before,
                       const std::shared_ptr<const NormState>& state) {
  if (subscription_count_.load() == 0) return;
  const NormState* newest = state != nullptr ? state.get() : before.get();
  if (newest == nullptr) return;
  StateEvent event = {.name = name,
                      .revision = newest->revision,
                      .num_batches_tracked = newest->num_batches_tracked(),
                      .etag = newest->Etag(),
                      .deleted = state == nullptr};
  absl::MutexLock lock(&mutex_);
  pending_.Put(std::move(event));
  wake_.Signal();
}

void WatchHub::Run() {
  while (true) {
    StateEvent event;
    bool missed = false;
    {
      absl::MutexLock lock(&mutex_);
      while (!pending_.Take(event, &missed)) {
        if (stopping_) return;
        wake_.Wait(&mutex_);
      }
    }
    absl::MutexLock lock(&sinks_mutex_);
    for (const Subscription& subscription : subscriptions_) {
      if (missed) {
        subscription.sink(nullptr);
      } else if (absl::StartsWith(event.name, subscription.prefix)) {
        subscription.sink(&event);
      }
    }
  }
}

}  // namespace normd
