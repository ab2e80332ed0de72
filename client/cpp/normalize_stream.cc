#include "client/cpp/normalize_stream.h"

#include <deque>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/cpp/client.h"
#include "client/cpp/client_impl.h"
#include "client/cpp/convert.h"
#include "client/cpp/request_bytes.h"
#include "client/cpp/resumable_call.h"
#include "grpcpp/impl/codegen/proto_utils.h"

namespace normd::client {
namespace {

constexpr char kMethod[] = "/normd.v1.NormalizationService/StreamNormalize";

}  // namespace

class NormalizeStream::Impl final : public ResumableCall::Traffic {
 public:
  Impl(const ClientImpl& client, const NormalizeStreamOptions& options)
      : window_(static_cast<size_t>(options.window)),
        held_bytes_max_(options.held_bytes_max),
        message_bytes_max_(client.options.message_bytes_max),
        on_result_(options.on_result),
        call_(client.channel, client.options.address, kMethod, options.retry, this) {}

  absl::StatusOr<int64_t> Send(absl::string_view state, const Batch& batch) {
    const grpc::ByteBuffer input = EncodeNormalizeBatch(batch);
    const int64_t input_bytes = static_cast<int64_t>(input.Length());
    absl::Status status = CheckMessageBytes(
        input_bytes + static_cast<int64_t>(EncodeNormalizeHead(state, INT64_MAX).size()),
        message_bytes_max_);
    if (!status.ok()) return status;
    absl::MutexLock lock(&call_.mutex());
    const auto can_go_on = [this, input_bytes] {
      return closed_ || call_.ended() || held_.empty() ||
             (held_.size() < window_ && held_bytes_ + input_bytes <= held_bytes_max_);
    };
    call_.mutex().Await(absl::Condition(&can_go_on));
    if (!call_.status().ok()) return call_.status();
    if (closed_) return absl::FailedPreconditionError("the stream is closed");
    const int64_t sequence = ++last_sequence_;
    held_.push_back({std::string(state), sequence, input});
    held_bytes_ += input_bytes;
    call_.Kick();
    return sequence;
  }

  absl::Status Flush() {
    absl::MutexLock lock(&call_.mutex());
    const int64_t number = last_sequence_;
    const auto flushed = [this, number] {
      return held_.empty() || held_.front().sequence > number;
    };
    const auto done = [this, &flushed] { return call_.ended() || flushed(); };
    call_.mutex().Await(absl::Condition(&done));
    return flushed() ? absl::OkStatus() : call_.status();
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

  bool HasWork() const override { return !held_.empty(); }
  void Rewind() override { sent_ = 0; }

  std::optional<grpc::ByteBuffer> NextMessage() override {
    if (sent_ == held_.size()) return std::nullopt;
    const Held& next = held_[sent_++];
    return JoinMessage(EncodeNormalizeHead(next.state, next.sequence), next.input);
  }

  absl::Status HandleAnswer(grpc::ByteBuffer answer) override {
    v1::NormalizeResponse response;
    const grpc::Status parsed =
        grpc::SerializationTraits<v1::NormalizeResponse>::Deserialize(&answer, &response);
    if (!parsed.ok()) return absl::InternalError("the server's answer is not a NormalizeResponse");
    absl::StatusOr<NormalizeResult> result = FromWire(std::move(response));
    if (!result.ok()) return result.status();
    {
      absl::MutexLock lock(&call_.mutex());
      const Held& oldest = held_.front();
      if (oldest.sequence != result->sequence) {
        return absl::InternalError(absl::StrCat("expected the answer to batch ", oldest.sequence,
                                                " from the server, got ", result->sequence));
      }
      result->state = oldest.state;
    }
    if (on_result_) on_result_(*std::move(result));
    absl::MutexLock lock(&call_.mutex());
    held_bytes_ -= static_cast<int64_t>(held_.front().input.Length());
    held_.pop_front();
    --sent_;
    return absl::OkStatus();
  }

 private:
  struct Held {
    std::string state;
    int64_t sequence = 0;
    grpc::ByteBuffer input;
  };

  // Constant after construction.
  const size_t window_;
  const int64_t held_bytes_max_;
  const int64_t message_bytes_max_;
  const std::function<void(NormalizeResult)> on_result_;

  // Guarded by call_.mutex().
  std::deque<Held> held_;  // not answered yet
  size_t sent_ = 0;        // how many of them were sent on this connection
  int64_t held_bytes_ = 0;
  int64_t last_sequence_ = 0;
  bool closed_ = false;

  ResumableCall call_;  // last: its thread uses what stands above
};

NormalizeStream::NormalizeStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NormalizeStream::~NormalizeStream() = default;

absl::StatusOr<int64_t> NormalizeStream::Send(absl::string_view state, const Batch& batch) {
  return impl_->Send(state, batch);
}
absl::Status NormalizeStream::Flush() { return impl_->Flush(); }
absl::Status NormalizeStream::Close() { return impl_->Close(); }
void NormalizeStream::Cancel() { impl_->Cancel(); }

absl::StatusOr<std::unique_ptr<NormalizeStream>> Client::OpenNormalizeStream(
    const NormalizeStreamOptions& options) {
  absl::Status status = CheckStreamOptions(options.window, options.held_bytes_max, options.retry);
  if (!status.ok()) return status;
  return std::unique_ptr<NormalizeStream>(
      new NormalizeStream(std::make_unique<NormalizeStream::Impl>(*impl_, options)));
}

}  // namespace normd::client
