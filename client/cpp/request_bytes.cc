#include "client/cpp/request_bytes.h"

#include <cstring>

#include "client/cpp/convert.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/message_lite.h"
#include "google/protobuf/wire_format_lite.h"
#include "grpc/slice.h"
#include "normd/v1/normalization_service.pb.h"

namespace normd::client {
namespace {

using ::google::protobuf::internal::WireFormatLite;
using ::google::protobuf::io::CodedOutputStream;

uint32_t LengthDelimitedTag(int field_number) {
  return WireFormatLite::MakeTag(field_number, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
}

size_t FieldBytes(uint32_t tag, size_t length) {
  return CodedOutputStream::VarintSize32(tag) + CodedOutputStream::VarintSize64(length) + length;
}

uint8_t* WriteLength(uint32_t tag, size_t length, uint8_t* to) {
  to = CodedOutputStream::WriteVarint32ToArray(tag, to);
  return CodedOutputStream::WriteVarint64ToArray(length, to);
}

grpc::Slice ToSlice(const google::protobuf::MessageLite& message) {
  const size_t length = message.ByteSizeLong();
  grpc_slice slice = grpc_slice_malloc(length);
  message.SerializeWithCachedSizesToArray(GRPC_SLICE_START_PTR(slice));
  return grpc::Slice(slice, grpc::Slice::STEAL_REF);
}

// A Tensor as field `field_number`, and the fields of `rest` behind it.
grpc::Slice EncodeTensor(int field_number, const Batch& batch,
                         const google::protobuf::MessageLite& rest) {
  const v1::Tensor head =
      ToWire(Batch::Borrow({batch.shape().begin(), batch.shape().end()}, {}, batch.layout()));
  const size_t head_bytes = head.ByteSizeLong();
  const size_t data_bytes = batch.values().size() * sizeof(float);
  const uint32_t tensor_tag = LengthDelimitedTag(field_number);
  const uint32_t data_tag = LengthDelimitedTag(v1::Tensor::kDataFieldNumber);
  const size_t tensor_bytes = head_bytes + FieldBytes(data_tag, data_bytes);

  grpc_slice slice = grpc_slice_malloc(FieldBytes(tensor_tag, tensor_bytes) + rest.ByteSizeLong());
  uint8_t* to = GRPC_SLICE_START_PTR(slice);
  to = WriteLength(tensor_tag, tensor_bytes, to);
  to = head.SerializeWithCachedSizesToArray(to);
  to = WriteLength(data_tag, data_bytes, to);
  if (data_bytes > 0) std::memcpy(to, batch.values().data(), data_bytes);
  rest.SerializeWithCachedSizesToArray(to + data_bytes);
  return grpc::Slice(slice, grpc::Slice::STEAL_REF);
}

v1::TrainRequest TrainFlags(bool return_output, bool return_moments) {
  v1::TrainRequest flags;
  flags.set_return_output(return_output);
  flags.set_return_moments(return_moments);
  return flags;
}

}  // namespace

grpc::Slice EncodeTrainBatch(const Batch& batch, bool return_output, bool return_moments) {
  return EncodeTensor(v1::TrainRequest::kInputFieldNumber, batch,
                      TrainFlags(return_output, return_moments));
}

grpc::Slice EncodeTrainBatch(const Moments& moments, bool return_output, bool return_moments) {
  v1::TrainRequest request = TrainFlags(return_output, return_moments);
  *request.mutable_moments() = ToWire(moments);
  return ToSlice(request);
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

grpc::Slice EncodeNormalizeBatch(const Batch& batch) {
  return EncodeTensor(v1::NormalizeRequest::kInputFieldNumber, batch, v1::NormalizeRequest());
}

grpc::Slice EncodeNormalizeHead(absl::string_view state, int64_t sequence) {
  v1::NormalizeRequest request;
  request.set_state(std::string(state));
  request.set_sequence(sequence);
  return ToSlice(request);
}

grpc::ByteBuffer JoinMessage(const grpc::Slice& head, const grpc::Slice& batch) {
  const grpc::Slice pieces[] = {head, batch};
  return grpc::ByteBuffer(pieces, 2);
}

}  // namespace normd::client
