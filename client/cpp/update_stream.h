#ifndef NORMD_CLIENT_CPP_UPDATE_STREAM_H_
#define NORMD_CLIENT_CPP_UPDATE_STREAM_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/client_impl.h"
#include "client/cpp/convert.h"
#include "client/cpp/resumable_call.h"
#include "client/cpp/retry.h"
#include "client/cpp/update_outbox.h"
#include "grpcpp/impl/codegen/proto_utils.h"

namespace normd::client {

// `producer_id`, or a random one when it is empty.
std::string ProducerIdOr(std::string producer_id);

// OK when the options of a stream of updates are in range. Errors: SEQUENCE_INVALID,
// PRODUCER_ID_INVALID, kInvalidArgument.
absl::Status CheckUpdateStreamOptions(const UpdateOutbox::Options& options,
                                      const RetryOptions& retry);

// A stream of updates with one `Response` to each, that is handed on as a `Result`: an outbox, and
// the call that carries it. Train and backward streams are this. Thread-safe; for the meaning of
// its functions see TrainStream.
template <typename Response, typename Result>
class UpdateStream final : public ResumableCall::Traffic {
 public:
  UpdateStream(const ClientImpl& client, const char* method, const UpdateOutbox::Options& outbox,
               const RetryOptions& retry, std::function<void(Result)> on_result)
      : outbox_options_(outbox),
        message_bytes_max_(client.options.message_bytes_max),
        on_result_(std::move(on_result)),
        outbox_(outbox),
        call_(client.channel, client.options.address, method, retry, this) {}

  absl::StatusOr<int64_t> Send(absl::string_view state, std::optional<int64_t> sequence,
                               const grpc::ByteBuffer& body) {
    const grpc::Slice largest_head = outbox_options_.encode_head(state, outbox_options_.producer_id,
                                                                 INT64_MAX, Durability::kRelaxed);
    const int64_t body_bytes = static_cast<int64_t>(body.Length());
    if (absl::Status status = CheckMessageBytes(
            body_bytes + static_cast<int64_t>(largest_head.size()), message_bytes_max_);
        !status.ok()) {
      return status;
    }
    absl::MutexLock lock(&call_.mutex());
    const auto can_go_on = [this, body_bytes] {
      return closed_ || call_.ended() || outbox_.HasRoomFor(body_bytes);
    };
    if (!can_go_on()) {
      outbox_.BeginWait(body_bytes);
      call_.Kick();
      call_.mutex().Await(absl::Condition(&can_go_on));
      outbox_.EndWait(body_bytes);
    }
    if (!call_.status().ok()) return call_.status();
    if (closed_) return absl::FailedPreconditionError("the stream is closed");
    absl::StatusOr<int64_t> taken = outbox_.Add(state, sequence, body);
    call_.Kick();
    return taken;
  }

  absl::Status Flush() {
    absl::MutexLock lock(&call_.mutex());
    const int64_t number = outbox_.BeginFlush();
    call_.Kick();
    const auto done = [this, number] { return call_.ended() || outbox_.FlushedTo(number); };
    call_.mutex().Await(absl::Condition(&done));
    return outbox_.FlushedTo(number) ? absl::OkStatus() : call_.status();
  }

  absl::Status Close() {
    {
      absl::MutexLock lock(&call_.mutex());
      closed_ = true;
    }
    if (absl::Status status = Flush(); !status.ok()) return status;
    return call_.Close();
  }

  void Cancel() { call_.Cancel(); }

  std::vector<PendingUpdate> Pending() {
    absl::MutexLock lock(&call_.mutex());
    return outbox_.Pending();
  }

  const std::string& producer_id() const { return outbox_options_.producer_id; }

  bool HasWork() const override { return !outbox_.empty(); }
  void Rewind() override { outbox_.Rewind(); }
  std::optional<grpc::ByteBuffer> NextMessage() override { return outbox_.Next(); }

  absl::Status HandleAnswer(grpc::ByteBuffer answer) override {
    Response response;
    const grpc::Status parsed =
        grpc::SerializationTraits<Response>::Deserialize(&answer, &response);
    if (!parsed.ok()) {
      return absl::InternalError(
          absl::StrCat("the server's answer is not a ", Response::descriptor()->name()));
    }
    absl::StatusOr<Result> result = FromWire(std::move(response));
    if (!result.ok()) return result.status();
    const absl::Status status = result->status;
    const int64_t sequence = result->sequence;
    const int64_t durable_sequence = result->durable_sequence;

    std::optional<UpdateOutbox::Awaited> awaited;
    std::vector<PendingUpdate> revoked;
    {
      absl::MutexLock lock(&call_.mutex());
      awaited = outbox_.NextAnswer();
      if (awaited.has_value() && !status.ok()) revoked = outbox_.Revoked();
    }
    if (!awaited.has_value() || awaited->sequence != sequence) {
      return absl::InternalError(absl::StrCat("expected the answer to sequence ",
                                              awaited.has_value() ? awaited->sequence : 0,
                                              " from the server, got sequence ", sequence));
    }
    if (!awaited->answered_before) {
      result->state = *awaited->state;
      Report(*std::move(result));
    }
    for (PendingUpdate& update : revoked) {
      Result again;
      again.state = std::move(update.state);
      again.sequence = update.sequence;
      again.status = status;
      Report(std::move(again));
    }
    absl::MutexLock lock(&call_.mutex());
    outbox_.Answered(status, durable_sequence);
    return absl::OkStatus();
  }

 private:
  void Report(Result result) const {
    if (on_result_) on_result_(std::move(result));
  }

  // Constant after construction.
  const UpdateOutbox::Options outbox_options_;
  const int64_t message_bytes_max_;
  const std::function<void(Result)> on_result_;

  // Guarded by call_.mutex().
  UpdateOutbox outbox_;
  bool closed_ = false;

  ResumableCall call_;  // last: its thread uses what stands above
};

}  // namespace normd::client

#endif  // NORMD_CLIENT_CPP_UPDATE_STREAM_H_
