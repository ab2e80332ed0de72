#ifndef NORMD_CLIENT_CPP_RETRY_H_
#define NORMD_CLIENT_CPP_RETRY_H_

#include "absl/time/time.h"

namespace normd::client {

// How a stream outlives a lost connection or a server that is away for a while. It connects again
// after UNAVAILABLE, a lost connection, RESOURCE_EXHAUSTED with reason STORE_FULL, and a message
// that was not answered in time; any other end of the call fails the stream at once.
struct RetryOptions {
  // The first wait; every next one is twice as long up to the last. Each is shortened by a random
  // part of up to a half. A longer wait that the server asks for is respected up to `backoff_max`.
  absl::Duration backoff_initial = absl::Milliseconds(50);
  absl::Duration backoff_max = absl::Seconds(2);
  // The stream fails when it has something to send and this long after it lost the server no answer
  // has come.
  absl::Duration retry_timeout = absl::Minutes(1);
  // The connection counts as lost when the server owes answers and none has come for this long.
  absl::Duration message_timeout = absl::Seconds(30);
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_RETRY_H_
