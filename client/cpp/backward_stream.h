#ifndef NORMD_CLIENT_CPP_BACKWARD_STREAM_H_
#define NORMD_CLIENT_CPP_BACKWARD_STREAM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cpp/batch.h"
#include "client/cpp/moments.h"
#include "client/cpp/result.h"
#include "client/cpp/retry.h"

namespace normd::client {

struct BackwardStreamOptions {
  // As in TrainStreamOptions. Batches and gradients of a producer share one numbering, so a train
  // stream and a backward stream that send to one state go by two names.
  std::string producer_id;
  int64_t first_sequence = 1;
  int64_t window = 64;
  int64_t held_bytes_max = int64_t{256} << 20;
  RetryOptions retry;
  // As in TrainStreamOptions.
  std::function<void(BackwardResult)> on_result;
};

// What is wanted of one output gradient.
struct GradientOptions {
  BackwardMode mode = BackwardMode::kTrain;
  // The moments that the forward call returned; nothing: computed anew from the input. Not used
  // where the running statistics are.
  std::optional<Moments> moments;
  // Compute and return grad_input.
  bool return_grad_input = true;
  // Step weight and bias by the gradients.
  bool apply = false;
};

struct BackwardSendOptions : GradientOptions {
  // The sequence of this gradient; must be above the last one of this state. Nothing: the next one.
  std::optional<int64_t> sequence;
};

// Sends output gradients to any number of states. Those with `apply` step weight and bias exactly
// once, by producer and sequence, through lost connections and crashes of the server, and are
// answered once they are on disk. After a lost connection what was not answered is sent again; what
// had been applied by then is answered as kDuplicate, without gradients, so one who needs every
// gradient does not step by them in the same call. All else is as in TrainStream. Thread-safe.
class BackwardStream {
 public:
  // Cancels, and waits for a callback that runs. Close() first to lose nothing.
  ~BackwardStream();

  BackwardStream(const BackwardStream&) = delete;
  BackwardStream& operator=(const BackwardStream&) = delete;

  // Takes the input of a forward call and the gradient of the loss by its output, and returns their
  // sequence. Keeps both as TrainStream::Send keeps its batch; blocks and fails as it.
  absl::StatusOr<int64_t> Send(absl::string_view state, const Batch& input,
                               const Batch& grad_output, const BackwardSendOptions& options = {});

  // Waits until everything taken before the call is answered and its callback has returned. Errors:
  // kCancelled, or the error that ended the stream.
  absl::Status Flush();

  // Flushes and ends the stream. Called again it returns the same.
  absl::Status Close();

  // As TrainStream::Cancel.
  void Cancel();

  // As TrainStream::Pending.
  std::vector<PendingUpdate> Pending() const;

  // As in the options, or the random one.
  const std::string& producer_id() const;

 private:
  friend class Client;
  class Impl;
  explicit BackwardStream(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_BACKWARD_STREAM_H_
