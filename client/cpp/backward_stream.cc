#include "client/cpp/backward_stream.h"

#include <utility>

#include "client/cpp/client.h"
#include "client/cpp/request_bytes.h"
#include "client/cpp/update_stream.h"

namespace normd::client {
namespace {

constexpr char kMethod[] = "/normd.v1.NormalizationService/StreamBackward";

}  // namespace

class BackwardStream::Impl {
 public:
  UpdateStream<v1::BackwardResponse, BackwardResult> stream;
};

BackwardStream::BackwardStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
BackwardStream::~BackwardStream() = default;

absl::StatusOr<int64_t> BackwardStream::Send(absl::string_view state, const Batch& input,
                                             const Batch& grad_output,
                                             const BackwardSendOptions& options) {
  return impl_->stream.Send(state, options.sequence,
                            EncodeBackwardBatch(input, grad_output,
                                                {options.mode, options.moments,
                                                 !options.return_grad_input, options.apply}));
}

absl::Status BackwardStream::Flush() { return impl_->stream.Flush(); }
absl::Status BackwardStream::Close() { return impl_->stream.Close(); }
void BackwardStream::Cancel() { impl_->stream.Cancel(); }
std::vector<PendingUpdate> BackwardStream::Pending() const { return impl_->stream.Pending(); }
const std::string& BackwardStream::producer_id() const { return impl_->stream.producer_id(); }

absl::StatusOr<std::unique_ptr<BackwardStream>> Client::OpenBackwardStream(
    const BackwardStreamOptions& options) {
  const UpdateOutbox::Options outbox = {&EncodeBackwardHead,    ProducerIdOr(options.producer_id),
                                        options.first_sequence, options.window,
                                        options.held_bytes_max, Durability::kDurable};
  absl::Status status = CheckUpdateStreamOptions(outbox, options.retry);
  if (!status.ok()) return status;
  return std::unique_ptr<BackwardStream>(new BackwardStream(std::unique_ptr<BackwardStream::Impl>(
      new BackwardStream::Impl{{*impl_, kMethod, outbox, options.retry, options.on_result}})));
}

}  // namespace normd::client
