#ifndef NORMD_CLIENT_CPP_STATE_WATCH_H_
#define NORMD_CLIENT_CPP_STATE_WATCH_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace normd::client {

// One change of one state, or the news that changes were missed.
struct StateEvent {
  enum class Kind {
    kChanged,  // created or changed
    kDeleted,
    kMissed,  // the reader was too slow and some changes were dropped: list the states to catch up
  };
  Kind kind = Kind::kMissed;
  // Not set with kMissed.
  std::string name;
  int64_t revision = 0;             // the newest durable one; with kDeleted the last one
  int64_t num_batches_tracked = 0;  // 0 when the state does not track statistics
  std::string etag;
};

// The revisions of states as they become durable. A slow reader gets the newest revision of a
// state, not every one. The watch stands when it is made: every change after that is reported. It
// does not connect again by itself: changes would be missed unseen.
// Next() is for one thread at a time; Cancel() for any.
class StateWatch {
 public:
  // Cancels. REQUIRES: no Next() runs.
  ~StateWatch();

  StateWatch(const StateWatch&) = delete;
  StateWatch& operator=(const StateWatch&) = delete;

  // Waits for the next event. Nothing after Cancel(). Errors: kUnavailable when the server drains
  // or the connection is lost, or any other error that ended the watch; then make a new one.
  absl::StatusOr<std::optional<StateEvent>> Next();

  // Ends the watch: a Next() that waits returns nothing.
  void Cancel();

 private:
  friend class Client;
  class Impl;
  explicit StateWatch(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_STATE_WATCH_H_
