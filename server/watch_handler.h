#ifndef NORMD_SERVER_WATCH_HANDLER_H_
#define NORMD_SERVER_WATCH_HANDLER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "server/message_handler.h"
#include "server/watch_hub.h"

namespace normd {

// The work behind WatchStates: the events of a hub under the prefix that a client asks for, as fast
// as it reads. Thread-safe.
class WatchHandler final : public SubscriptionHandler {
 public:
  // At most `pending_states_max` states wait for one client. `hub` outlives the handler and all
  // that it opens.
  WatchHandler(WatchHub* hub, int64_t pending_states_max, int64_t message_bytes_max)
      : hub_(hub), pending_states_max_(pending_states_max), message_bytes_max_(message_bytes_max) {}

  // Errors: MESSAGE_TOO_LARGE, MESSAGE_MALFORMED, STATE_NAME_INVALID (the prefix).
  absl::StatusOr<std::unique_ptr<MessageSource>> Open(grpc::ByteBuffer* request,
                                                      std::function<void()> wake) override;

 private:
  WatchHub* const hub_;
  const int64_t pending_states_max_;
  const int64_t message_bytes_max_;
};

}  // namespace normd

#endif  // NORMD_SERVER_WATCH_HANDLER_H_
