#include "server/message_codec.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "proto/wire/length_delimited.h"

namespace normd {
namespace {

using wire::FieldBytes;
using wire::LengthDelimitedTag;
using wire::WriteFieldHead;

// Holds any response that has a tensor and no moments.
constexpr size_t kHeadRoom = 256;

constexpr size_t kTensorAlignment = 8;  // of the largest dtype

constexpr uint32_t kDataTag = LengthDelimitedTag(v1::Tensor::kDataFieldNumber);

bool IsAligned(const char* data) {
  return reinterpret_cast<uintptr_t>(data) % kTensorAlignment == 0;
}

wire::Pieces PiecesOf(grpc::ByteBuffer& bytes) {
  wire::Pieces pieces;
  grpc::ProtoBufferReader reader(&bytes);
  const void* data = nullptr;
  for (int size = 0; reader.status().ok() && reader.Next(&data, &size);) {
    pieces.emplace_back(static_cast<const char*>(data), static_cast<size_t>(size));
  }
  return pieces;
}

// Errors: MESSAGE_TOO_LARGE.
absl::Status CheckMessageBytes(const grpc::ByteBuffer& bytes, int64_t bytes_max) {
  const auto size = static_cast<int64_t>(bytes.Length());
  if (size <= bytes_max) return absl::OkStatus();
  return MakeError(
      Reason::kMessageTooLarge,
      absl::StrCat("the message has ", size, " bytes, expected at most ", bytes_max,
                   " (--message-bytes-max)"),
      {{"expected_max_bytes", absl::StrCat(bytes_max)}, {"actual_bytes", absl::StrCat(size)}});
}

absl::Status Malformed(const google::protobuf::Message& message) {
  return MakeError(Reason::kMessageMalformed,
                   absl::StrCat("the bytes are not a ", message.GetTypeName()),
                   {{"expected", message.GetTypeName()}});
}

}  // namespace

absl::Status ParseMessage(grpc::ByteBuffer* bytes, int64_t bytes_max,
                          google::protobuf::Message& message) {
  grpc::ByteBuffer taken;
  taken.Swap(bytes);
  NORMD_RETURN_IF_ERROR(CheckMessageBytes(taken, bytes_max));
  grpc::ProtoBufferReader reader(&taken);
  if (!reader.status().ok() || !message.ParseFromZeroCopyStream(&reader)) return Malformed(message);
  // Neither kept nor sent back: they may take many times their bytes.
  message.DiscardUnknownFields();
  return absl::OkStatus();
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

absl::Status RequestBytes::Parse(int64_t bytes_max, absl::Span<const wire::TensorField> fields,
                                 google::protobuf::Message& message) {
  NORMD_RETURN_IF_ERROR(CheckMessageBytes(bytes_, bytes_max));
  absl::InlinedVector<wire::Pieces, 2> data(fields.size());
  std::string rest;
  if (!wire::SplitMessage(PiecesOf(bytes_), fields, rest, absl::MakeSpan(data)) ||
      !message.ParseFromString(rest)) {
    return Malformed(message);
  }
  // As in ParseMessage.
  message.DiscardUnknownFields();
  tensors_.resize(fields.size());
  for (size_t i = 0; i < data.size(); ++i) tensors_[i].pieces = std::move(data[i]);
  return absl::OkStatus();
}

absl::string_view RequestBytes::TensorData(size_t index, BufferPool& pool) {
  Tensor& tensor = tensors_[index];
  if (tensor.pieces.empty()) return {};
  if (tensor.pieces.size() == 1 && IsAligned(tensor.pieces.front().data())) {
    return tensor.pieces.front();
  }
  const size_t size = TensorBytes(index);
  tensor.gathered = pool.Take(size);
  char* to = tensor.gathered.data();
  for (const absl::string_view piece : tensor.pieces) {
    std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  }
  return {tensor.gathered.data(), size};
}

size_t RequestBytes::TensorBytes(size_t index) const {
  size_t size = 0;
  for (const absl::string_view piece : tensors_[index].pieces) size += piece.size();
  return size;
}

void RequestBytes::Clear() {
  tensors_.clear();
  bytes_.Clear();
}

char* ResponseTensor::Begin(int number, const v1::Tensor& like, size_t size, BufferPool& pool) {
  number_ = number;
  like_ = &like;
  size_ = size;
  buffer_ = pool.Take(kHeadRoom + size);
  return buffer_.data() + kHeadRoom;
}

grpc::ByteBuffer ResponseTensor::Serialize(const google::protobuf::MessageLite& response) {
  if (buffer_.data() == nullptr) return SerializeMessage(response);
  const size_t response_size = response.ByteSizeLong();
  const uint32_t tag = LengthDelimitedTag(number_);
  // REQUIRED of a request that was parsed: like_ has no data of its own.
  const size_t like_size = like_->ByteSizeLong();
  const size_t tensor_size = like_size + FieldBytes(kDataTag, size_);
  const size_t head_size = response_size + FieldBytes(tag, tensor_size) - size_;
  const auto write_head = [&](uint8_t* to) {
    to = response.SerializeWithCachedSizesToArray(to);
    to = WriteFieldHead(tag, tensor_size, to);
    to = like_->SerializeWithCachedSizesToArray(to);
    WriteFieldHead(kDataTag, size_, to);
  };
  if (head_size <= kHeadRoom) {
    const size_t begin = kHeadRoom - head_size;
    write_head(reinterpret_cast<uint8_t*>(buffer_.data()) + begin);
    const grpc::Slice slice = std::move(buffer_).ToSlice(begin, head_size + size_);
    return grpc::ByteBuffer(&slice, 1);
  }
  grpc::Slice slices[] = {grpc::Slice(head_size), grpc::Slice()};
  write_head(const_cast<uint8_t*>(slices[0].begin()));
  slices[1] = std::move(buffer_).ToSlice(kHeadRoom, size_);
  return grpc::ByteBuffer(slices, 2);
}

}  // namespace normd
