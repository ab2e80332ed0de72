#ifndef NORMD_CORE_STORE_EVENT_SINK_H_
#define NORMD_CORE_STORE_EVENT_SINK_H_

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace normd {

// Tells events, one at a time. Thread-safe.
class EventSink {
 public:
  // `on_event` may be empty.
  explicit EventSink(absl::AnyInvocable<void(absl::string_view)> on_event)
      : on_event_(std::move(on_event)) {}

  void Tell(absl::string_view line) {
    absl::MutexLock lock(&mutex_);
    if (on_event_) on_event_(line);
  }

 private:
  absl::Mutex mutex_;
  absl::AnyInvocable<void(absl::string_view)> on_event_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace normd

#endif  // NORMD_CORE_STORE_EVENT_SINK_H_
