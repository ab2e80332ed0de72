#ifndef NORMD_SERVER_MESSAGE_CODEC_H_
#define NORMD_SERVER_MESSAGE_CODEC_H_

#include <grpcpp/support/byte_buffer.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "google/protobuf/message.h"
#include "google/protobuf/message_lite.h"
#include "normd/v1/tensor.pb.h"
#include "proto/wire/message_split.h"
#include "proto/wire/request_parser.h"
#include "server/buffer_pool.h"

namespace normd {

// Parses a message without tensors from `bytes`, which it takes out; of what it does not know at
// most a few bytes.
// Errors: MESSAGE_TOO_LARGE (more than `bytes_max`, or than kMessageFieldsMax fields),
// MESSAGE_MALFORMED.
absl::Status ParseMessage(grpc::ByteBuffer* bytes, int64_t bytes_max,
                          google::protobuf::Message& message);

// The bytes of a message, in one slice.
grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message);

// The bytes of a request and those of its tensors, which are read where they lie.
class RequestBytes {
 public:
  // Takes the bytes out of `bytes`.
  explicit RequestBytes(grpc::ByteBuffer* bytes) { bytes_.Swap(bytes); }

  RequestBytes(const RequestBytes&) = delete;
  RequestBytes& operator=(const RequestBytes&) = delete;

  // Parses into `message`, which is empty, all but Tensor.data of `fields`; of what it does not
  // know at most a few bytes. Called once, first. REQUIRES: `fields` are those of Request. Errors:
  // MESSAGE_TOO_LARGE (more than `bytes_max`, or than kMessageFieldsMax fields), MESSAGE_MALFORMED.
  template <typename Request>
  absl::Status Parse(int64_t bytes_max, absl::Span<const wire::TensorField> fields,
                     Request& message) {
    NORMD_RETURN_IF_ERROR(Begin(bytes_max, fields.size()));
    const wire::Pieces pieces = MessagePieces();
    if constexpr (requires { wire::ParseRequest(pieces, message, pieces_[0]); }) {
      if (wire::ParseRequest(pieces, message, pieces_[0])) return absl::OkStatus();
      message.Clear();
      pieces_[0].clear();
    }
    return ParseAny(pieces, fields, message);
  }

  // Tensor.data of the field at `index` as it lies in the message. Valid until Clear or the end.
  const wire::Pieces& TensorPieces(size_t index) const { return pieces_[index]; }

  // Lets go of all bytes.
  void Clear();

 private:
  // Before a message with so many tensors is parsed. Errors: MESSAGE_TOO_LARGE.
  absl::Status Begin(int64_t bytes_max, size_t tensors);
  // Where the message lies, all of it.
  wire::Pieces MessagePieces();
  // Parses whatever is a message. Errors: MESSAGE_TOO_LARGE, MESSAGE_MALFORMED.
  absl::Status ParseAny(absl::Span<const absl::string_view> pieces,
                        absl::Span<const wire::TensorField> fields,
                        google::protobuf::Message& message);

  grpc::ByteBuffer bytes_;
  // One of each field.
  absl::InlinedVector<wire::Pieces, 2> pieces_;
};

// The one tensor of a response that is computed straight into the bytes that are sent.
class ResponseTensor {
 public:
  // Makes it the field `number` of the response, in dtype, shape and layout of `like`, which must
  // outlive it, and returns its `size` bytes to be filled, aligned to every dtype and, from 8 KiB
  // on, to a cache line.
  char* Begin(int number, const v1::Tensor& like, size_t size, BufferPool& pool);

  // Takes it out of the response.
  void Clear() { memory_ = nullptr; }

  // The bytes of `response` with this tensor, if there is one, behind the other fields. Called
  // once, last.
  grpc::ByteBuffer Serialize(const google::protobuf::MessageLite& response);

 private:
  // So many bytes of the memory, which is given away.
  grpc::Slice TakeSlice(size_t offset, size_t size);

  // The room for what stands before the data, and the data, in one of the two.
  grpc::Slice small_;
  Buffer large_;
  char* memory_ = nullptr;
  int number_ = 0;
  const v1::Tensor* like_ = nullptr;
  std::unique_ptr<v1::Tensor> known_;  // what like_ is of a tensor with fields that are not known
  size_t size_ = 0;
};

}  // namespace normd

#endif  // NORMD_SERVER_MESSAGE_CODEC_H_
