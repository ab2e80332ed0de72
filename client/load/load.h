#ifndef NORMD_CLIENT_LOAD_LOAD_H_
#define NORMD_CLIENT_LOAD_LOAD_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/load/latency_histogram.h"
#include "client/load/request_source.h"

// Loads a server with the messages of one streaming method, as fast as it answers them. Messages
// are encoded beforehand and answers are not parsed, so that the server is the one that is
// measured: raw bytes, and one completion queue a thread.
namespace normd::load {

// All counts are >= 1.
struct LoadOptions {
  std::string address;
  int64_t channels = 1;  // connections, among which the streams are dealt out
  int64_t streams = 1;
  int64_t window = 64;  // messages of a stream that are sent and not answered
  int64_t threads = 1;  // among which the streams are dealt out
  // Answers that come after `warmup` and within `duration` are measured.
  absl::Duration warmup = absl::Seconds(1);
  absl::Duration duration = absl::Seconds(5);
  // When not 0: instead of both, so many messages are sent in all, and all are measured.
  int64_t messages = 0;
  // Look for an error in each answer. Without, it may be any bytes.
  bool check_answers = true;
  absl::Duration connect_timeout = absl::Seconds(3);
  // The load is broken off when it has waited for any answer for so long.
  absl::Duration answer_timeout = absl::Seconds(10);
};

// Of the whole load so far, warm-up included.
struct LoadProgress {
  int64_t messages = 0;  // answered
  int64_t sent_bytes = 0;
  double fraction = 0;  // of the time or the messages
};

struct LoadReport {
  // What was measured.
  double seconds = 0;
  int64_t messages = 0;
  int64_t sent_bytes = 0;  // of messages, without what HTTP/2 adds
  int64_t received_bytes = 0;
  LatencyHistogram latency;  // from the start of a message's write to its answer

  // Of the whole load, warm-up included.
  int64_t answered = 0;
  int64_t acknowledged = 0;  // answered without an error
  int64_t unanswered = 0;    // sent, when their stream ended
  int64_t errors = 0;        // answers that are errors, and streams that ended otherwise than asked
  absl::Status first_error;
  // Processor time that the server's process took meanwhile, where the server tells it.
  std::optional<double> server_cpu_seconds;
  bool stopped = false;  // because `go_on` said so
};

// Runs the load to its end. `go_on` is called about ten times a second by this thread; when it
// returns false nothing more is sent and the load ends once all is answered. Errors: kUnavailable
// when the address cannot be reached. What fails later is told by the report.
absl::StatusOr<LoadReport> RunLoad(const LoadOptions& options, const RequestSource& source,
                                   const std::function<bool(const LoadProgress&)>& go_on);

}  // namespace normd::load

#endif  // NORMD_CLIENT_LOAD_LOAD_H_
