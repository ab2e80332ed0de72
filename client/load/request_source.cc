#include "client/load/request_source.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/moments.h"
#include "client/cpp/request_bytes.h"
#include "normd/v1/normalization_service.pb.h"

namespace normd::load {
namespace {

absl::StatusOr<grpc::ByteBuffer> EncodeBatch(const RequestOptions& options) {
  switch (options.mode) {
    case Mode::kTrain:
      return client::EncodeTrainBatch(options.batch, {.return_output = options.return_output});
    case Mode::kTrainMoments: {
      const auto moments = client::ComputeMoments(options.batch);
      if (!moments.ok()) return moments.status();
      return client::EncodeTrainBatch(*moments, {});
    }
    case Mode::kNormalize:
      break;
  }
  return client::EncodeNormalizeBatch(options.batch);
}

}  // namespace

absl::StatusOr<RequestSource> RequestSource::Make(RequestOptions options) {
  auto batch = EncodeBatch(options);
  if (!batch.ok()) return batch.status();
  return RequestSource(std::move(options), *batch);
}

RequestSource::RequestSource(RequestOptions options, const grpc::ByteBuffer& batch)
    : options_(std::move(options)), batch_(batch) {
  if (options_.mode != Mode::kNormalize) return;
  heads_.reserve(options_.states.size());
  for (const std::string& state : options_.states) {
    heads_.push_back(client::EncodeNormalizeHead(state, /*sequence=*/0));
  }
}

const char* RequestSource::method() const {
  return options_.mode == Mode::kNormalize ? "/normd.v1.NormalizationService/StreamNormalize"
                                           : "/normd.v1.NormalizationService/StreamTrain";
}

int RequestSource::error_field() const {
  if (options_.mode == Mode::kNormalize) return v1::NormalizeResponse::kErrorFieldNumber;
  return v1::TrainResponse::kErrorFieldNumber;
}

RequestSource::Stream::Stream(const RequestSource* source, int64_t index)
    : source_(source),
      producer_id_(absl::StrCat(source->options_.producer_prefix, index)),
      random_(source->options_.seed + static_cast<uint64_t>(index)),
      pick_(0, source->options_.states.size() - 1) {}

grpc::ByteBuffer RequestSource::Stream::Next() {
  const RequestOptions& options = source_->options_;
  const size_t state = options.states.size() == 1 ? 0 : pick_(random_);
  if (options.mode == Mode::kNormalize) {
    return client::JoinMessage(source_->heads_[state], source_->batch_);
  }
  // One numbering for all states of the stream: gaps are allowed.
  return client::JoinMessage(
      client::EncodeTrainHead(options.states[state], producer_id_, ++sequence_, options.durability),
      source_->batch_);
}

}  // namespace normd::load
