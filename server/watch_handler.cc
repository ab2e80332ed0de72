#include "server/watch_handler.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/base/names.h"
#include "core/base/status_macros.h"
#include "normd/v1/state_service.pb.h"
#include "server/message_codec.h"

namespace normd {
namespace {

class WatchSource final : public MessageSource {
 public:
  WatchSource(WatchHub* hub, absl::string_view prefix, int64_t pending_states_max,
              std::function<void()> wake)
      : hub_(hub),
        wake_(std::move(wake)),
        pending_(pending_states_max, hub->memory()),
        subscription_(hub->Subscribe(prefix, [this](const StateEvent* event) { OnEvent(event); })) {
  }

  ~WatchSource() override { hub_->Unsubscribe(subscription_); }

  bool Next(grpc::ByteBuffer* message) override {
    StateEvent event;
    bool missed = false;
    {
      absl::MutexLock lock(&mutex_);
      if (!pending_.Take(event, &missed)) return false;
    }
    v1::WatchStatesResponse response;
    if (missed) {
      response.set_event(v1::WatchStatesResponse::MISSED);
    } else {
      response.set_event(event.deleted ? v1::WatchStatesResponse::DELETED
                                       : v1::WatchStatesResponse::CHANGED);
      response.set_name(event.name);
      response.set_revision(event.revision);
      response.set_num_batches_tracked(event.num_batches_tracked);
      response.set_etag(event.etag);
    }
    *message = SerializeMessage(response);
    return true;
  }

 private:
  void OnEvent(const StateEvent* event) {
    {
      absl::MutexLock lock(&mutex_);
      if (event == nullptr) {
        pending_.MarkMissed();
      } else {
        pending_.Put(*event);
      }
    }
    wake_();
  }

  WatchHub* const hub_;
  const std::function<void()> wake_;

  absl::Mutex mutex_;
  PendingEvents pending_ ABSL_GUARDED_BY(mutex_);

  const int64_t subscription_;  // last: events come from here on
};

}  // namespace

absl::StatusOr<std::unique_ptr<MessageSource>> WatchHandler::Open(grpc::ByteBuffer* request,
                                                                  std::function<void()> wake) {
  v1::WatchStatesRequest message;
  NORMD_RETURN_IF_ERROR(ParseMessage(request, message_bytes_max_, message));
  NORMD_RETURN_IF_ERROR(CheckStateNamePrefix(message.prefix()));
  return std::make_unique<WatchSource>(hub_, message.prefix(), pending_states_max_,
                                       std::move(wake));
}

}  // namespace normd
