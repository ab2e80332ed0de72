#ifndef NORMD_CLIENT_CPP_RESUMABLE_CALL_H_
#define NORMD_CLIENT_CPP_RESUMABLE_CALL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/retry.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"

namespace normd::client {

// A bidirectional call that is made again when it is lost, with one answer to every message, in
// order. One thread of its own waits for what the transport reports and runs the callbacks;
// messages are started from any thread. What is sent again is the traffic's choice.
//
// There is one mutex, the call's; the traffic's data is guarded by it too. It is never held while a
// callback runs.
class ResumableCall {
 public:
  // What the call carries.
  class Traffic {
   public:
    virtual ~Traffic() = default;

    // The next three run with the mutex held.

    // Whether a message waits to be sent or an answer is owed: only then there is a connection to
    // be made, and a server that stays away is an error.
    virtual bool HasWork() const = 0;
    // A new connection was made: nothing is sent on it yet.
    virtual void Rewind() = 0;
    // The next message to send now; nothing when there is none.
    virtual std::optional<grpc::ByteBuffer> NextMessage() = 0;

    // The answer to the oldest unanswered message of this connection. Runs on the call's thread
    // without the mutex. An error ends the call for good: the answer makes no sense.
    virtual absl::Status HandleAnswer(grpc::ByteBuffer answer) = 0;
  };

  // REQUIRES: `traffic` outlives the call.
  ResumableCall(std::shared_ptr<grpc::Channel> channel, std::string address, std::string method,
                const RetryOptions& retry, Traffic* traffic);
  // Cancels and waits for the thread. REQUIRES: not on the call's thread.
  ~ResumableCall();

  ResumableCall(const ResumableCall&) = delete;
  ResumableCall& operator=(const ResumableCall&) = delete;

  absl::Mutex& mutex() ABSL_LOCK_RETURNED(mutex_) { return mutex_; }

  // The traffic may have a message to send.
  void Kick() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Ends the call once the traffic has no more work, and waits for that. Returns how it ended.
  absl::Status Close() ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends the call at once. When it returns no callback runs and none will, unless it is called from
  // a callback.
  void Cancel() ABSL_LOCKS_EXCLUDED(mutex_);

  // True once nothing more is sent or answered.
  bool ended() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ended_ || cancelled_; }
  // Why; OK after Close() and while the call lives.
  const absl::Status& status() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return status_; }

 private:
  // One attempt, from connecting to its status.
  struct Connection {
    grpc::ClientContext context;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call;
    grpc::ByteBuffer incoming;
    grpc::Status end;

    // What the transport has still to report.
    bool starting = false;
    bool writing = false;
    bool finishing = false;
    bool finished = false;

    bool ready = false;  // messages may be sent
    bool writes_done = false;
    bool timed_out = false;
    absl::Status broken;  // an answer that makes no sense
    int64_t owed = 0;     // messages sent and not answered
    // Uptime of the last answer, or of the first message after it.
    absl::Duration progress_at;
  };

  // Why a connection ended; never OK. A final one is not worth another attempt.
  struct Loss {
    absl::Status status;
    bool is_final = false;
  };

  void Run();
  // Connects and carries the traffic until the call ends.
  Loss RunConnection();
  // Whether the server owes something by Deadline().
  bool IsWaiting(const Connection& connection) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration Deadline(const Connection& connection) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Duration TimeLeft(const Connection& connection) ABSL_LOCKS_EXCLUDED(mutex_);
  void HandleEvent(intptr_t tag, bool ok, Connection& connection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HandleRead(Connection& connection) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Finish(Connection& connection) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // How long to wait before the next attempt.
  absl::Duration NextBackoff(const absl::Status& lost) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status GaveUp(const absl::Status& lost) const;
  void End(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const std::string address_;
  const std::string method_;
  const RetryOptions retry_;
  Traffic* const traffic_;
  grpc::GenericStub stub_;

  grpc::CompletionQueue queue_;

  absl::Mutex mutex_;
  Connection* connection_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool in_callback_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  // Uptime of the first loss after the last answer.
  std::optional<absl::Duration> lost_at_ ABSL_GUARDED_BY(mutex_);
  absl::Duration backoff_ ABSL_GUARDED_BY(mutex_);
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_RESUMABLE_CALL_H_
