#ifndef NORMD_CLIENT_CPP_RESULT_H_
#define NORMD_CLIENT_CPP_RESULT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

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
  kApplied,    // folded into the state; also what changes nothing, as an empty batch
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
  Batch output;          // as the input in shape, dtype and layout
  int64_t revision = 0;  // of the state that was used
};

// An update that a stream has taken and does not know to be durable.
struct PendingUpdate {
  std::string state;
  int64_t sequence = 0;
  // True for a relaxed update that was answered and may not be on disk yet.
  bool answered = false;
};

// How the forward call was made that a gradient is taken of.
enum class BackwardMode {
  kTrain,  // by the batch's own statistics, through which the gradient flows
  kEval,   // by the running statistics, which are constants; a state that has none: as kTrain
};

// The answer to one output gradient. A kDuplicate has no gradients: the parameters that they were
// taken by have moved on. A stream that sends again after a lost connection may get one for a step
// that it has caused itself.
struct BackwardResult {
  std::string state;
  int64_t sequence = 0;
  // Why the gradient was refused; then nothing below is set.
  absl::Status status;
  std::optional<Batch> grad_input;  // as the input in shape, dtype and layout, unless left out
  // Length C, before any step; empty without affine, and grad_bias for RMS norm.
  std::vector<double> grad_weight;
  std::vector<double> grad_bias;
  // With `apply`: what became of the step.
  Disposition disposition = Disposition::kRefused;
  int64_t revision = 0;          // of the state that holds the step, or else that was used
  int64_t optimizer_step = 0;    // with `apply`: steps taken, with this one
  int64_t durable_sequence = 0;  // with `apply`: the producer's highest sequence on disk
  // Of the state whose parameters and statistics the gradients were taken by: with `apply` and
  // several gradients on their way it may be older than the one that was stepped. 0: a kDuplicate.
  int64_t parameters_revision = 0;
};

// The answer to gradients that were applied.
struct ApplyResult {
  std::string state;
  int64_t sequence = 0;
  Disposition disposition = Disposition::kRefused;
  int64_t revision = 0;          // of the state that holds the step
  int64_t optimizer_step = 0;    // steps taken, with this one
  int64_t durable_sequence = 0;  // the producer's highest sequence of this state on disk
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_RESULT_H_
