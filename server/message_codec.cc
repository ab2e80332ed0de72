#include "server/message_codec.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/limits.h"
#include "core/base/status_macros.h"
#include "proto/wire/field_count.h"
#include "proto/wire/length_delimited.h"

namespace normd {
namespace {

using wire::FieldBytes;
using wire::LengthDelimitedTag;
using wire::WriteFieldHead;

// Holds any response that has a tensor and no moments.
constexpr size_t kHeadRoom = 256;

// Up to here memory of gRPC's own costs less than a pool's. Its alignment is malloc's.
constexpr size_t kSmallBytes = 8192;

constexpr size_t kUnknownBytesKept = 1024;

// Holds what is not tensor data of most messages.
constexpr size_t kRestBytes = 256;

constexpr uint32_t kDataTag = LengthDelimitedTag(v1::Tensor::kDataFieldNumber);

// Errors: MESSAGE_TOO_LARGE, with the name of the flag unless its range is above `bytes_max`.
absl::Status CheckMessageBytes(const grpc::ByteBuffer& bytes, int64_t bytes_max) {
  const auto size = static_cast<int64_t>(bytes.Length());
  if (size <= bytes_max) return absl::OkStatus();
  return MakeError(
      Reason::kMessageTooLarge,
      absl::StrCat("the message has ", size, " bytes, expected at most ", bytes_max,
                   bytes_max < kMessageBytesMin ? "" : " (--message-bytes-max)"),
      {{"expected_max_bytes", absl::StrCat(bytes_max)}, {"actual_bytes", absl::StrCat(size)}});
}

absl::Status Malformed(const google::protobuf::Message& message) {
  return MakeError(Reason::kMessageMalformed,
                   absl::StrCat("the bytes are not a ", message.GetTypeName()),
                   {{"expected", message.GetTypeName()}});
}

// Before the message of these bytes is parsed to `message`: while it is, and until it is answered,
// a field takes up to some 100 bytes of memory, on the wire two. Errors: MESSAGE_TOO_LARGE,
// MESSAGE_MALFORMED.
absl::Status CheckFields(grpc::ByteBuffer& bytes, const google::protobuf::Message& message) {
  const auto size = static_cast<int64_t>(bytes.Length());
  if (size <= kMessageFieldsMax) return absl::OkStatus();
  grpc::ProtoBufferReader reader(&bytes);
  const std::optional<int64_t> fields =
      wire::CountFields(reader, *message.GetDescriptor(), kMessageFieldsMax);
  if (!fields.has_value()) return Malformed(message);
  if (*fields <= kMessageFieldsMax) return absl::OkStatus();
  return MakeError(
      Reason::kMessageTooLarge,
      absl::StrCat("the message has more than ", kMessageFieldsMax, " fields in ", size,
                   " bytes, expected at most ", kMessageFieldsMax, " beside the values of arrays"),
      {{"expected_max_fields", absl::StrCat(kMessageFieldsMax)},
       {"actual_bytes", absl::StrCat(size)}});
}

// Lets go of the fields of `message`, which has `bytes` bytes, that it does not know: they may take
// many times their bytes. A few do not matter, and to look for them costs more than to parse.
void DiscardUnknownFields(size_t bytes, google::protobuf::Message& message) {
  if (bytes > kUnknownBytesKept) message.DiscardUnknownFields();
}

}  // namespace

absl::Status ParseMessage(grpc::ByteBuffer* bytes, int64_t bytes_max,
                          google::protobuf::Message& message) {
  grpc::ByteBuffer taken;
  taken.Swap(bytes);
  NORMD_RETURN_IF_ERROR(CheckMessageBytes(taken, bytes_max));
  NORMD_RETURN_IF_ERROR(CheckFields(taken, message));
  grpc::ProtoBufferReader reader(&taken);
  if (!reader.status().ok() || !message.ParseFromZeroCopyStream(&reader)) return Malformed(message);
  DiscardUnknownFields(taken.Length(), message);
  return absl::OkStatus();
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

wire::Pieces RequestBytes::MessagePieces() {
  wire::Pieces pieces;
  grpc::ProtoBufferReader reader(&bytes_);
  const void* data = nullptr;
  for (int size = 0; reader.status().ok() && reader.Next(&data, &size);) {
    pieces.emplace_back(static_cast<const char*>(data), static_cast<size_t>(size));
  }
  return pieces;
}

absl::Status RequestBytes::Begin(int64_t bytes_max, size_t tensors) {
  NORMD_RETURN_IF_ERROR(CheckMessageBytes(bytes_, bytes_max));
  pieces_.resize(tensors);
  return absl::OkStatus();
}

absl::Status RequestBytes::ParseAny(absl::Span<const absl::string_view> pieces,
                                    absl::Span<const wire::TensorField> fields,
                                    google::protobuf::Message& message) {
  NORMD_RETURN_IF_ERROR(CheckFields(bytes_, message));
  std::string rest;
  rest.reserve(kRestBytes);
  if (!wire::SplitMessage(pieces, fields, rest, absl::MakeSpan(pieces_)) ||
      !message.ParseFromString(rest)) {
    return Malformed(message);
  }
  DiscardUnknownFields(rest.size(), message);
  return absl::OkStatus();
}

void RequestBytes::Clear() {
  pieces_.clear();
  bytes_.Clear();
}

char* ResponseTensor::Begin(int number, const v1::Tensor& like, size_t size, BufferPool& pool) {
  number_ = number;
  like_ = &like;
  if (!like.GetReflection()->GetUnknownFields(like).empty()) {
    known_ = std::make_unique<v1::Tensor>(like);
    known_->DiscardUnknownFields();
    like_ = known_.get();
  }
  size_ = size;
  if (size <= kSmallBytes) {
    small_ = grpc::Slice(kHeadRoom + size);
    memory_ = reinterpret_cast<char*>(const_cast<uint8_t*>(small_.begin()));
  } else {
    large_ = pool.Take(kHeadRoom + size);
    memory_ = large_.data();
  }
  return memory_ + kHeadRoom;
}

grpc::ByteBuffer ResponseTensor::Serialize(const google::protobuf::MessageLite& response) {
  if (memory_ == nullptr) return SerializeMessage(response);
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
    write_head(reinterpret_cast<uint8_t*>(memory_) + begin);
    const grpc::Slice slice = TakeSlice(begin, head_size + size_);
    return grpc::ByteBuffer(&slice, 1);
  }
  grpc::Slice slices[] = {grpc::Slice(head_size), grpc::Slice()};
  write_head(const_cast<uint8_t*>(slices[0].begin()));
  slices[1] = TakeSlice(kHeadRoom, size_);
  return grpc::ByteBuffer(slices, 2);
}

grpc::Slice ResponseTensor::TakeSlice(size_t offset, size_t size) {
  return size_ <= kSmallBytes ? small_.sub(offset, offset + size)
                              : std::move(large_).ToSlice(offset, size);
}

}  // namespace normd
