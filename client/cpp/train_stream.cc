#include "client/cpp/train_stream.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/client.h"
#include "client/cpp/client_impl.h"
#include "client/cpp/convert.h"
#include "client/cpp/request_bytes.h"
#include "client/cpp/resumable_call.h"
#include "client/cpp/train_outbox.h"
#include "client/cpp/wire_status.h"
#include "grpcpp/impl/codegen/proto_utils.h"

namespace normd::client {
namespace {

constexpr char kMethod[] = "/normd.v1.NormalizationService/StreamTrain";
constexpr size_t kProducerIdBytesMax = 128;

std::string RandomProducerId() {
  std::random_device random;
  return absl::StrFormat("%08x%08x%08x%08x", random(), random(), random(), random());
}

}  // namespace

class TrainStream::Impl final : public ResumableCall::Traffic {
 public:
  Impl(const ClientImpl& client, TrainStreamOptions options)
      : producer_id_(options.producer_id),
        message_bytes_max_(client.options.message_bytes_max),
        on_result_(std::move(options.on_result)),
        outbox_({options.producer_id, options.first_sequence, options.window,
                 options.held_bytes_max, options.durability}),
        call_(client.channel, client.options.address, kMethod, options.retry, this) {}

  absl::StatusOr<int64_t> Send(absl::string_view state, const SendOptions& options,
                               const grpc::Slice& batch) {
    const int64_t bytes = static_cast<int64_t>(
        batch.size() +
        EncodeTrainHead(state, producer_id_, INT64_MAX, Durability::kRelaxed).size());
    if (absl::Status status = CheckMessageBytes(bytes, message_bytes_max_); !status.ok()) {
      return status;
    }
    absl::MutexLock lock(&call_.mutex());
    const int64_t held_bytes = static_cast<int64_t>(batch.size());
    const auto can_go_on = [this, held_bytes] {
      return closed_ || call_.ended() || outbox_.HasRoomFor(held_bytes);
    };
    if (!can_go_on()) {
      outbox_.BeginWait(held_bytes);
      call_.Kick();
      call_.mutex().Await(absl::Condition(&can_go_on));
      outbox_.EndWait(held_bytes);
    }
    if (!call_.status().ok()) return call_.status();
    if (closed_) return absl::FailedPreconditionError("the stream is closed");
    absl::StatusOr<int64_t> sequence = outbox_.Add(state, options.sequence, batch);
    call_.Kick();
    return sequence;
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

  const std::string& producer_id() const { return producer_id_; }

  bool HasWork() const override { return !outbox_.empty(); }
  void Rewind() override { outbox_.Rewind(); }
  std::optional<grpc::ByteBuffer> NextMessage() override { return outbox_.Next(); }

  absl::Status HandleAnswer(grpc::ByteBuffer answer) override {
    v1::TrainResponse response;
    const grpc::Status parsed =
        grpc::SerializationTraits<v1::TrainResponse>::Deserialize(&answer, &response);
    if (!parsed.ok()) return absl::InternalError("the server's answer is not a TrainResponse");
    absl::StatusOr<TrainResult> result = FromWire(response);
    if (!result.ok()) return result.status();
    const absl::Status status = result->status;
    const int64_t durable_sequence = result->durable_sequence;

    std::optional<TrainOutbox::Awaited> awaited;
    std::vector<PendingUpdate> revoked;
    {
      absl::MutexLock lock(&call_.mutex());
      awaited = outbox_.NextAnswer();
      if (awaited.has_value() && !status.ok()) revoked = outbox_.Revoked();
    }
    if (!awaited.has_value() || awaited->sequence != response.sequence()) {
      return absl::InternalError(absl::StrCat(
          "expected the answer to sequence ", awaited.has_value() ? awaited->sequence : 0,
          " from the server, got sequence ", response.sequence()));
    }
    if (!awaited->answered_before) {
      result->state = *awaited->state;
      Report(*std::move(result));
    }
    for (PendingUpdate& update : revoked) {
      TrainResult again;
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
  void Report(TrainResult result) const {
    if (on_result_) on_result_(std::move(result));
  }

  // Constant after construction.
  const std::string producer_id_;
  const int64_t message_bytes_max_;
  const std::function<void(TrainResult)> on_result_;

  // Guarded by call_.mutex().
  TrainOutbox outbox_;
  bool closed_ = false;

  ResumableCall call_;  // last: its thread uses what stands above
};

TrainStream::TrainStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TrainStream::~TrainStream() = default;

absl::StatusOr<int64_t> TrainStream::Send(absl::string_view state, const Batch& batch,
                                          const SendOptions& options) {
  return impl_->Send(state, options,
                     EncodeTrainBatch(batch, options.return_output, options.return_moments));
}

absl::StatusOr<int64_t> TrainStream::Send(absl::string_view state, const Moments& moments,
                                          const SendOptions& options) {
  return impl_->Send(state, options,
                     EncodeTrainBatch(moments, options.return_output, options.return_moments));
}

absl::Status TrainStream::Flush() { return impl_->Flush(); }
absl::Status TrainStream::Close() { return impl_->Close(); }
void TrainStream::Cancel() { impl_->Cancel(); }
std::vector<PendingUpdate> TrainStream::Pending() const { return impl_->Pending(); }
const std::string& TrainStream::producer_id() const { return impl_->producer_id(); }

absl::StatusOr<std::unique_ptr<TrainStream>> Client::OpenTrainStream(
    const TrainStreamOptions& options) {
  absl::Status status = CheckStreamOptions(options.window, options.held_bytes_max, options.retry);
  if (!status.ok()) return status;
  if (options.first_sequence < 1) {
    return MakeLocalError(
        absl::StatusCode::kInvalidArgument, v1::SEQUENCE_INVALID,
        absl::StrCat("expected a first_sequence of at least 1, got ", options.first_sequence));
  }
  if (options.producer_id.size() > kProducerIdBytesMax) {
    return MakeLocalError(absl::StatusCode::kInvalidArgument, v1::PRODUCER_ID_INVALID,
                          absl::StrCat("expected a producer_id of at most ", kProducerIdBytesMax,
                                       " bytes, got ", options.producer_id.size()));
  }
  TrainStreamOptions filled = options;
  if (filled.producer_id.empty()) filled.producer_id = RandomProducerId();
  return std::unique_ptr<TrainStream>(
      new TrainStream(std::make_unique<TrainStream::Impl>(*impl_, std::move(filled))));
}

}  // namespace normd::client
