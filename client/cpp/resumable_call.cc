#include "client/cpp/resumable_call.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/error.h"
#include "client/cpp/wire_status.h"
#include "grpc/support/time.h"

namespace normd::client {
namespace {

enum Tag : intptr_t { kStart = 1, kRead, kWrite, kFinish };

void* ToPointer(Tag tag) { return reinterpret_cast<void*>(tag); }

// Time on a clock that never jumps.
absl::Duration Uptime() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

gpr_timespec DeadlineAfter(absl::Duration wait) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(absl::ToInt64Nanoseconds(wait), GPR_TIMESPAN));
}

}  // namespace

ResumableCall::ResumableCall(std::shared_ptr<grpc::Channel> channel, std::string address,
                             std::string method, const RetryOptions& retry, Traffic* traffic)
    : address_(std::move(address)),
      method_(std::move(method)),
      retry_(retry),
      traffic_(traffic),
      stub_(std::move(channel)),
      backoff_(retry.backoff_initial),
      random_(std::random_device()()),
      thread_([this] { Run(); }) {}

ResumableCall::~ResumableCall() {
  Cancel();
  thread_.join();
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
  }
}

void ResumableCall::Kick() { WriteNext(); }

absl::Status ResumableCall::Close() {
  absl::MutexLock lock(&mutex_);
  closing_ = true;
  WriteNext();
  mutex_.Await(absl::Condition(&ended_));
  return status_;
}

void ResumableCall::Cancel() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  if (!ended_ && status_.ok()) status_ = absl::CancelledError("the stream was cancelled");
  if (connection_ != nullptr) connection_->context.TryCancel();
  if (std::this_thread::get_id() == thread_.get_id()) return;
  mutex_.Await(absl::Condition(
      +[](ResumableCall* call) ABSL_NO_THREAD_SAFETY_ANALYSIS { return !call->in_callback_; },
      this));
}

void ResumableCall::Run() {
  absl::MutexLock lock(&mutex_);
  absl::Status last_error;
  for (;;) {
    mutex_.Await(absl::Condition(
        +[](ResumableCall* call) ABSL_NO_THREAD_SAFETY_ANALYSIS {
          return call->cancelled_ || call->closing_ || call->traffic_->HasWork();
        },
        this));
    if (cancelled_ || !traffic_->HasWork()) return End(absl::OkStatus());

    mutex_.Unlock();
    const Loss loss = RunConnection();
    mutex_.Lock();
    if (cancelled_ || (closing_ && !traffic_->HasWork())) continue;
    const absl::Status& lost = loss.status;
    if (loss.is_final) {
      return End(WithMessage(lost, lost.code(), absl::StrCat(address_, ": ", lost.message())));
    }
    if (!traffic_->HasWork()) continue;
    // A refused connection says more than the timeout of the attempt after it.
    if (!lost_at_.has_value() || !absl::IsDeadlineExceeded(lost)) last_error = lost;
    if (!lost_at_.has_value()) lost_at_ = Uptime();
    const absl::Duration left = *lost_at_ + retry_.retry_timeout - Uptime();
    const absl::Duration wait = NextBackoff(lost);
    mutex_.AwaitWithTimeout(absl::Condition(&cancelled_), std::min(wait, left));
    if (left <= wait && !cancelled_) return End(GaveUp(last_error));
  }
}

ResumableCall::Loss ResumableCall::RunConnection() {
  Connection connection;
  {
    absl::MutexLock lock(&mutex_);
    traffic_->Rewind();
    // The first attempt tells why there is no connection. The next ones wait for one: a channel
    // makes progress with connecting only while a call waits for it.
    connection.context.set_wait_for_ready(lost_at_.has_value());
    connection.call = stub_.PrepareCall(&connection.context, method_, &queue_);
    connection.starting = true;
    connection.progress_at = Uptime();
    connection.call->StartCall(ToPointer(kStart));
    connection_ = &connection;
    if (cancelled_) connection.context.TryCancel();
  }
  while (!connection.finished || connection.writing) {
    void* tag = nullptr;
    bool ok = false;
    const grpc::CompletionQueue::NextStatus next =
        queue_.AsyncNext(&tag, &ok, DeadlineAfter(TimeLeft(connection)));
    absl::MutexLock lock(&mutex_);
    if (next == grpc::CompletionQueue::GOT_EVENT) {
      HandleEvent(reinterpret_cast<intptr_t>(tag), ok, connection);
    } else if (IsWaiting(connection) && Uptime() >= Deadline(connection)) {
      connection.timed_out = true;
      connection.context.TryCancel();
    }
  }
  absl::MutexLock lock(&mutex_);
  connection_ = nullptr;
  if (!connection.broken.ok()) return {connection.broken, true};
  if (connection.timed_out) {
    return {absl::DeadlineExceededError(
                absl::StrCat("no answer within ", absl::FormatDuration(retry_.message_timeout))),
            false};
  }
  if (connection.end.ok()) return {absl::UnavailableError("the server ended the stream"), false};
  absl::Status status = FromGrpc(connection.end);
  const bool is_final = !IsTransient(status);
  return {std::move(status), is_final};
}

bool ResumableCall::IsWaiting(const Connection& connection) const {
  return !connection.finishing && !connection.timed_out &&
         (connection.starting || connection.owed > 0 || connection.writes_done);
}

absl::Duration ResumableCall::Deadline(const Connection& connection) const {
  const absl::Duration deadline = connection.progress_at + retry_.message_timeout;
  return lost_at_.has_value() ? std::min(deadline, *lost_at_ + retry_.retry_timeout) : deadline;
}

absl::Duration ResumableCall::TimeLeft(const Connection& connection) {
  absl::MutexLock lock(&mutex_);
  if (!IsWaiting(connection)) return retry_.message_timeout;
  return std::max(Deadline(connection) - Uptime(), absl::ZeroDuration());
}

void ResumableCall::HandleEvent(intptr_t tag, bool ok, Connection& connection) {
  switch (tag) {
    case kStart:
      connection.starting = false;
      connection.ready = ok;
      if (ok) {
        connection.call->Read(&connection.incoming, ToPointer(kRead));
        WriteNext();
      } else {
        Finish(connection);
      }
      break;
    case kRead:
      if (ok) {
        HandleRead(connection);
      } else {
        Finish(connection);
      }
      break;
    case kWrite:
      connection.writing = false;
      // What was answered before the call broke is still read; the read then fails as well.
      if (ok) {
        WriteNext();
      } else {
        connection.ready = false;
      }
      break;
    case kFinish:
      connection.finished = true;
      if (connection.writing) connection.context.TryCancel();
      break;
  }
}

void ResumableCall::HandleRead(Connection& connection) {
  grpc::ByteBuffer answer;
  answer.Swap(&connection.incoming);
  if (connection.owed == 0) {
    connection.broken = absl::InternalError("the server sent an answer to no message");
  } else if (!cancelled_) {
    --connection.owed;
    in_callback_ = true;
    mutex_.Unlock();
    absl::Status status = traffic_->HandleAnswer(answer);
    mutex_.Lock();
    in_callback_ = false;
    connection.broken = std::move(status);
    connection.progress_at = Uptime();
    lost_at_.reset();
    backoff_ = retry_.backoff_initial;
  }
  if (!connection.broken.ok()) {
    connection.context.TryCancel();
    Finish(connection);
    return;
  }
  connection.call->Read(&connection.incoming, ToPointer(kRead));
  WriteNext();
}

void ResumableCall::Finish(Connection& connection) {
  connection.ready = false;
  connection.finishing = true;
  connection.call->Finish(&connection.end, ToPointer(kFinish));
}

void ResumableCall::WriteNext() {
  Connection* connection = connection_;
  if (connection == nullptr || !connection->ready || connection->writing ||
      connection->writes_done) {
    return;
  }
  if (const std::optional<grpc::ByteBuffer> message = traffic_->NextMessage()) {
    if (connection->owed++ == 0) connection->progress_at = Uptime();
    connection->writing = true;
    connection->call->Write(*message, ToPointer(kWrite));
  } else if (closing_ && !traffic_->HasWork()) {
    connection->progress_at = Uptime();
    connection->writes_done = true;
    connection->writing = true;
    connection->call->WritesDone(ToPointer(kWrite));
  }
}

absl::Duration ResumableCall::NextBackoff(const absl::Status& lost) {
  const absl::Duration wait = backoff_ * std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  backoff_ = std::min(2 * backoff_, retry_.backoff_max);
  const absl::Duration asked = ErrorRetryDelay(lost).value_or(absl::ZeroDuration());
  return std::max(wait, std::min(asked, retry_.backoff_max));
}

absl::Status ResumableCall::GaveUp(const absl::Status& lost) const {
  const bool keeps_code = absl::IsDeadlineExceeded(lost) || absl::IsResourceExhausted(lost);
  return WithMessage(
      lost, keeps_code ? lost.code() : absl::StatusCode::kUnavailable,
      absl::StrCat("gave up on ", address_, " after ", absl::FormatDuration(retry_.retry_timeout),
                   " without an answer; last error: ", absl::StatusCodeToString(lost.code()), ": ",
                   lost.message()));
}

void ResumableCall::End(absl::Status status) {
  ended_ = true;
  if (status_.ok()) status_ = std::move(status);
}

}  // namespace normd::client
