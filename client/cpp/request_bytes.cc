#include "client/cpp/request_bytes.h"

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "client/cpp/convert.h"
#include "google/protobuf/message_lite.h"
#include "grpc/slice.h"
#include "normd/v1/normalization_service.pb.h"
#include "proto/wire/length_delimited.h"

namespace normd::client {
namespace {

using wire::FieldBytes;
using wire::LengthDelimitedTag;
using wire::WriteFieldHead;

grpc::Slice ToSlice(const google::protobuf::MessageLite& message) {
  const size_t length = message.ByteSizeLong();
  grpc_slice slice = grpc_slice_malloc(length);
  message.SerializeWithCachedSizesToArray(GRPC_SLICE_START_PTR(slice));
  return grpc::Slice(slice, grpc::Slice::STEAL_REF);
}

// Fewer bytes than this are copied rather than referred to.
constexpr size_t kReferredBytesMin = 4096;

constexpr uint32_t kDataTag = LengthDelimitedTag(v1::Tensor::kDataFieldNumber);

// The bytes of `batch`, which live as long as the slice.
grpc::Slice ReferTo(const Batch& batch) {
  using Owner = std::shared_ptr<const void>;
  return grpc::Slice(
      const_cast<char*>(batch.bytes().data()), batch.bytes().size(),
      [](void* owner) { delete static_cast<Owner*>(owner); }, new Owner(batch.owner()));
}

// A Tensor as the field `number`: what stands before its bytes, and these behind it in the same
// slice or, when the batch owns many, in one of their own.
void AppendTensor(int number, const Batch& batch, std::vector<grpc::Slice>& to) {
  const absl::string_view data = batch.bytes();
  const v1::Tensor head = HeadToWire(batch);
  const uint32_t tag = LengthDelimitedTag(number);
  const size_t tensor_bytes = head.ByteSizeLong() + FieldBytes(kDataTag, data.size());
  const bool refers = batch.owner() != nullptr && data.size() >= kReferredBytesMin;
  const size_t bytes = FieldBytes(tag, tensor_bytes) - (refers ? data.size() : 0);
  grpc_slice slice = grpc_slice_malloc(bytes);
  uint8_t* at = WriteFieldHead(tag, tensor_bytes, GRPC_SLICE_START_PTR(slice));
  at = head.SerializeWithCachedSizesToArray(at);
  at = WriteFieldHead(kDataTag, data.size(), at);
  if (!refers && !data.empty()) std::memcpy(at, data.data(), data.size());
  to.emplace_back(slice, grpc::Slice::STEAL_REF);
  if (refers) to.push_back(ReferTo(batch));
}

grpc::ByteBuffer ToBuffer(const std::vector<grpc::Slice>& slices) {
  return grpc::ByteBuffer(slices.data(), slices.size());
}

v1::TrainRequest ToRequest(const TrainFlags& flags) {
  v1::TrainRequest request;
  request.set_return_output(flags.return_output);
  request.set_return_moments(flags.return_moments);
  request.set_calibrate(flags.calibrate);
  request.set_calibration_id(std::string(flags.calibration_id));
  return request;
}

}  // namespace

grpc::ByteBuffer EncodeTrainBatch(const Batch& batch, const TrainFlags& flags) {
  std::vector<grpc::Slice> slices = {ToSlice(ToRequest(flags))};
  AppendTensor(v1::TrainRequest::kInputFieldNumber, batch, slices);
  return ToBuffer(slices);
}

grpc::ByteBuffer EncodeTrainBatch(const Moments& moments, const TrainFlags& flags) {
  v1::TrainRequest request = ToRequest(flags);
  *request.mutable_moments() = ToWire(moments);
  return ToBuffer({ToSlice(request)});
}

grpc::Slice EncodeTrainHead(absl::string_view state, absl::string_view producer_id,
                            int64_t sequence, Durability durability) {
  v1::TrainRequest request;
  request.set_state(std::string(state));
  request.set_producer_id(std::string(producer_id));
  request.set_sequence(sequence);
  request.set_durability(ToWire(durability));
  return ToSlice(request);
}

grpc::ByteBuffer EncodeNormalizeBatch(const Batch& batch) {
  std::vector<grpc::Slice> slices;
  AppendTensor(v1::NormalizeRequest::kInputFieldNumber, batch, slices);
  return ToBuffer(slices);
}

grpc::Slice EncodeNormalizeHead(absl::string_view state, int64_t sequence) {
  v1::NormalizeRequest request;
  request.set_state(std::string(state));
  request.set_sequence(sequence);
  return ToSlice(request);
}

grpc::ByteBuffer EncodeBackwardBatch(const Batch& input, const Batch& grad_output,
                                     const BackwardFlags& flags) {
  v1::BackwardRequest rest;
  rest.set_mode(ToWire(flags.mode));
  if (flags.moments.has_value()) *rest.mutable_moments() = ToWire(*flags.moments);
  rest.set_omit_grad_input(flags.omit_grad_input);
  rest.set_apply(flags.apply);
  std::vector<grpc::Slice> slices = {ToSlice(rest)};
  AppendTensor(v1::BackwardRequest::kInputFieldNumber, input, slices);
  AppendTensor(v1::BackwardRequest::kGradOutputFieldNumber, grad_output, slices);
  return ToBuffer(slices);
}

grpc::Slice EncodeBackwardHead(absl::string_view state, absl::string_view producer_id,
                               int64_t sequence, Durability durability) {
  v1::BackwardRequest request;
  request.set_state(std::string(state));
  request.set_producer_id(std::string(producer_id));
  request.set_sequence(sequence);
  request.set_durability(ToWire(durability));
  return ToSlice(request);
}

grpc::ByteBuffer JoinMessage(const grpc::Slice& head, const grpc::ByteBuffer& batch) {
  std::vector<grpc::Slice> slices;
  // A buffer that holds bytes as they are sent always gives them.
  (void)batch.Dump(&slices);
  slices.insert(slices.begin(), head);
  return ToBuffer(slices);
}

}  // namespace normd::client
