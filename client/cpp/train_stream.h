#ifndef NORMD_CLIENT_CPP_TRAIN_STREAM_H_
#define NORMD_CLIENT_CPP_TRAIN_STREAM_H_

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

struct TrainStreamOptions {
  // Who sends the updates, at most 128 bytes; empty: a random name of this stream alone. Two
  // streams that live at the same time must not send to one state under one name.
  std::string producer_id;
  // The sequence of the first update of every state; the next ones count up. >= 1. A producer that
  // goes on after a crash under its old name begins above what it has sent.
  int64_t first_sequence = 1;
  // The most updates that are sent and not yet answered; >= 1.
  int64_t window = 64;
  // The most bytes of updates that are held for sending again; one update is always let through.
  int64_t held_bytes_max = int64_t{256} << 20;
  Durability durability = Durability::kDurable;
  RetryOptions retry;
  // Gets every result, in the order of the Send() calls, one at a time, on the stream's own thread.
  // The window slides when it returns. It must not call Send(), Flush(), Close() or the destructor;
  // Cancel() is fine. A relaxed update that was answered, was lost in a crash of the server and is
  // refused when sent again (the state was frozen or deleted) is reported once more, with its
  // error. May be empty.
  std::function<void(TrainResult)> on_result;
};

struct SendOptions {
  // Return the batch normalized by its own statistics. Not with moments.
  bool return_output = false;
  // Return the moments of the batch.
  bool return_moments = false;
  // Contribute to the calibration under way instead (CALIBRATION_NOT_ACTIVE).
  bool calibrate = false;
  // With `calibrate`, when not empty: only to this one (CALIBRATION_MISMATCH).
  std::string calibration_id;
  // The sequence of this update; must be above the last one of this state. Nothing: the next one.
  std::optional<int64_t> sequence;
};

// Sends updates to any number of states, and each is applied exactly once: after a lost connection
// or a crash of the server the stream connects again and sends, in order, everything that is not
// known to be durable; the server recognizes what it has by producer and sequence.
//
// Relaxed updates are held after their answer until they are durable. What is held is bounded: at
// most 4 x window updates and held_bytes_max bytes. The stream asks for durability by sending every
// window-th update of a state as a durable one, and when it must by sending the last held update of
// a state once more as a durable one, which the server answers once all before it is on disk.
//
// An update that the server refuses is a result with its error; the stream goes on. When the answer
// to a refused update is lost with a connection, and a later update of the same state was applied,
// the server may answer the repeated one as a duplicate.
//
// Thread-safe. Send() calls from several threads are sent in the order in which they take effect.
class TrainStream {
 public:
  // Cancels, and waits for a callback that runs. Close() first to lose nothing.
  ~TrainStream();

  TrainStream(const TrainStream&) = delete;
  TrainStream& operator=(const TrainStream&) = delete;

  // Takes one update and returns its sequence. Values that `batch` owns are shared and sent from
  // where they lie; borrowed ones are copied. Blocks while the window is full, and while the server
  // is away, but never longer than the retry timeout without an answer.
  // Errors, which change nothing: kInvalidArgument (SEQUENCE_INVALID: not above the last one),
  // kResourceExhausted (MESSAGE_TOO_LARGE: above ClientOptions.message_bytes_max),
  // kFailedPrecondition (after Close()), kCancelled (after Cancel()), or the error that ended the
  // stream, which names the address and the last error of the connection.
  absl::StatusOr<int64_t> Send(absl::string_view state, const Batch& batch,
                               const SendOptions& options = {});
  absl::StatusOr<int64_t> Send(absl::string_view state, const Moments& moments,
                               const SendOptions& options = {});

  // Waits until every update taken before the call is answered, its callback has returned, and it
  // is durable. A refused update counts as answered and is no error here. Errors: kCancelled, or
  // the error that ended the stream.
  absl::Status Flush();

  // Flushes and ends the stream. Called again it returns the same.
  absl::Status Close();

  // Ends the stream at once; blocked calls return kCancelled. No callback runs after it has
  // returned, unless it is called from the callback. Updates not yet answered may or may not have
  // been applied.
  void Cancel();

  // The updates that were taken and are not known to be durable, in the order of sending. After an
  // error: what a new stream of the same producer_id would have to send again.
  std::vector<PendingUpdate> Pending() const;

  // As in the options, or the random one.
  const std::string& producer_id() const;

 private:
  friend class Client;
  class Impl;
  explicit TrainStream(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_TRAIN_STREAM_H_
