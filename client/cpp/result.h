#ifndef NORMD_CLIENT_CPP_RESULT_H_
#define NORMD_CLIENT_CPP_RESULT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "client/cpp/batch.h"
#include "client/cpp/moments.h"

namespace normd::client {

// When an update is answered.
enum class Durability {
  kDurable,  // once it is on disk
  kRelaxed,  // once it is folded; it is kept here until it is on disk there
};

// What became of an update.
enum class Disposition {
  kRefused,    // see TrainResult.status
  kApplied,    // folded into the state; also an empty batch, which changes nothing
  kDuplicate,  // this sequence had been decided before; a success
};

// The answer to one update.
struct TrainResult {
  std::string state;
  int64_t sequence = 0;
  // Why the update was refused; then nothing below is set.
  absl::Status status;
  Disposition disposition = Disposition::kRefused;
  int64_t revision = 0;             // of the state that holds the update
  int64_t num_batches_tracked = 0;  // after the update; 0 when the state does not track
  std::optional<Batch> output;      // the normalized batch, when asked for
  std::optional<Moments> moments;   // the moments of the batch, when asked for
  int64_t durable_sequence = 0;     // the producer's highest sequence of this state on disk
};

// The answer to one batch to normalize.
struct NormalizeResult {
  std::string state;
  int64_t sequence = 0;  // counts the batches of a stream from 1; 0 for a unary call
  // Why the batch was refused; then nothing below is set.
  absl::Status status;
  Batch output;          // as the input in shape and layout
  int64_t revision = 0;  // of the state that was used
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_RESULT_H_
