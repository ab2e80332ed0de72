#include "client/cpp/train_stream.h"

#include <utility>

#include "client/cpp/client.h"
#include "client/cpp/request_bytes.h"
#include "client/cpp/update_stream.h"

namespace normd::client {
namespace {

constexpr char kMethod[] = "/normd.v1.NormalizationService/StreamTrain";

TrainFlags ToFlags(const SendOptions& options) {
  return {options.return_output, options.return_moments, options.calibrate, options.calibration_id};
}

}  // namespace

class TrainStream::Impl {
 public:
  UpdateStream<v1::TrainResponse, TrainResult> stream;
};

TrainStream::TrainStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TrainStream::~TrainStream() = default;

absl::StatusOr<int64_t> TrainStream::Send(absl::string_view state, const Batch& batch,
                                          const SendOptions& options) {
  return impl_->stream.Send(state, options.sequence, EncodeTrainBatch(batch, ToFlags(options)));
}

absl::StatusOr<int64_t> TrainStream::Send(absl::string_view state, const Moments& moments,
                                          const SendOptions& options) {
  return impl_->stream.Send(state, options.sequence, EncodeTrainBatch(moments, ToFlags(options)));
}

absl::Status TrainStream::Flush() { return impl_->stream.Flush(); }
absl::Status TrainStream::Close() { return impl_->stream.Close(); }
void TrainStream::Cancel() { impl_->stream.Cancel(); }
std::vector<PendingUpdate> TrainStream::Pending() const { return impl_->stream.Pending(); }
const std::string& TrainStream::producer_id() const { return impl_->stream.producer_id(); }

absl::StatusOr<std::unique_ptr<TrainStream>> Client::OpenTrainStream(
    const TrainStreamOptions& options) {
  const UpdateOutbox::Options outbox = {&EncodeTrainHead,       ProducerIdOr(options.producer_id),
                                        options.first_sequence, options.window,
                                        options.held_bytes_max, options.durability};
  absl::Status status = CheckUpdateStreamOptions(outbox, options.retry);
  if (!status.ok()) return status;
  return std::unique_ptr<TrainStream>(new TrainStream(std::unique_ptr<TrainStream::Impl>(
      new TrainStream::Impl{{*impl_, kMethod, outbox, options.retry, options.on_result}})));
}

}  // namespace normd::client
