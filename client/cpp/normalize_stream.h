#ifndef NORMD_CLIENT_CPP_NORMALIZE_STREAM_H_
#define NORMD_CLIENT_CPP_NORMALIZE_STREAM_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cpp/batch.h"
#include "client/cpp/result.h"
#include "client/cpp/retry.h"

namespace normd::client {

struct NormalizeStreamOptions {
  // The most batches that are sent and not yet answered; >= 1.
  int64_t window = 64;
  // The most bytes of batches that are held for sending again; one batch is always let through.
  int64_t held_bytes_max = int64_t{256} << 20;
  RetryOptions retry;
  // Gets every result, in the order of the Send() calls, one at a time, on the stream's own thread.
  // The window slides when it returns. It must not call Send(), Flush(), Close() or the destructor;
  // Cancel() is fine. May be empty.
  std::function<void(NormalizeResult)> on_result;
};

// Normalizes batches by any number of states (eval mode). After a lost connection the stream
// connects again and sends, in order, what was not answered. Thread-safe.
class NormalizeStream {
 public:
  // Cancels, and waits for a callback that runs.
  ~NormalizeStream();

  NormalizeStream(const NormalizeStream&) = delete;
  NormalizeStream& operator=(const NormalizeStream&) = delete;

  // Takes one batch and returns its number in this stream, counted from 1. Keeps `batch`,
  // blocks and fails as TrainStream::Send.
  absl::StatusOr<int64_t> Send(absl::string_view state, const Batch& batch);

  // Waits until every batch taken before the call is answered and its callback has returned.
  // Errors: kCancelled, or the error that ended the stream.
  absl::Status Flush();

  // Flushes and ends the stream. Called again it returns the same.
  absl::Status Close();

  // As TrainStream::Cancel.
  void Cancel();

 private:
  friend class Client;
  class Impl;
  explicit NormalizeStream(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_NORMALIZE_STREAM_H_
