#include "client/cpp/request_bytes.h"

#include <cstring>
#include <initializer_list>
#include <string>

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

// A Tensor as a field of a request, whose bytes are copied once.
class TensorField {
 public:
  TensorField(int field_number, const Batch& batch)
      : tag_(LengthDelimitedTag(field_number)),
        data_(batch.bytes()),
        head_(HeadToWire(batch)),
        tensor_bytes_(head_.ByteSizeLong() + FieldBytes(kDataTag, data_.size())) {}

  size_t bytes() const { return FieldBytes(tag_, tensor_bytes_); }

  uint8_t* Write(uint8_t* to) const {
    to = WriteLength(tag_, tensor_bytes_, to);
    to = head_.SerializeWithCachedSizesToArray(to);
    to = WriteLength(kDataTag, data_.size(), to);
    if (!data_.empty()) std::memcpy(to, data_.data(), data_.size());
    return to + data_.size();
  }

 private:
  static constexpr uint32_t kDataTag =
      (uint32_t{v1::Tensor::kDataFieldNumber} << 3) | WireFormatLite::WIRETYPE_LENGTH_DELIMITED;

  const uint32_t tag_;
  const absl::string_view data_;
  const v1::Tensor head_;
  const size_t tensor_bytes_;
};

// Tensors, and the fields of `rest` behind them.
grpc::Slice EncodeTensors(std::initializer_list<TensorField> tensors,
                          const google::protobuf::MessageLite& rest) {
  size_t bytes = rest.ByteSizeLong();
  for (const TensorField& tensor : tensors) bytes += tensor.bytes();
  grpc_slice slice = grpc_slice_malloc(bytes);
  uint8_t* to = GRPC_SLICE_START_PTR(slice);
  for (const TensorField& tensor : tensors) to = tensor.Write(to);
  rest.SerializeWithCachedSizesToArray(to);
  return grpc::Slice(slice, grpc::Slice::STEAL_REF);
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

grpc::Slice EncodeTrainBatch(const Batch& batch, const TrainFlags& flags) {
  return EncodeTensors({TensorField(v1::TrainRequest::kInputFieldNumber, batch)}, ToRequest(flags));
}

grpc::Slice EncodeTrainBatch(const Moments& moments, const TrainFlags& flags) {
  v1::TrainRequest request = ToRequest(flags);
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
  return EncodeTensors({TensorField(v1::NormalizeRequest::kInputFieldNumber, batch)},
                       v1::NormalizeRequest());
}

grpc::Slice EncodeNormalizeHead(absl::string_view state, int64_t sequence) {
  v1::NormalizeRequest request;
  request.set_state(std::string(state));
  request.set_sequence(sequence);
  return ToSlice(request);
}

grpc::Slice EncodeBackwardBatch(const Batch& input, const Batch& grad_output,
                                const BackwardFlags& flags) {
  v1::BackwardRequest rest;
  rest.set_mode(ToWire(flags.mode));
  if (flags.moments.has_value()) *rest.mutable_moments() = ToWire(*flags.moments);
  rest.set_omit_grad_input(flags.omit_grad_input);
  rest.set_apply(flags.apply);
  return EncodeTensors({TensorField(v1::BackwardRequest::kInputFieldNumber, input),
                        TensorField(v1::BackwardRequest::kGradOutputFieldNumber, grad_output)},
                       rest);
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

grpc::ByteBuffer JoinMessage(const grpc::Slice& head, const grpc::Slice& batch) {
  const grpc::Slice pieces[] = {head, batch};
  return grpc::ByteBuffer(pieces, 2);
}

}  // namespace normd::client
