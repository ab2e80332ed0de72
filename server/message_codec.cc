#include "server/message_codec.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"

namespace normd {

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, int64_t bytes_max,
                          google::protobuf::MessageLite& message) {
  if (const auto length = static_cast<int64_t>(bytes.Length()); length > bytes_max) {
    return MakeError(
        Reason::kMessageTooLarge,
        absl::StrCat("the message has ", length, " bytes, expected at most ", bytes_max,
                     " (--message-bytes-max)"),
        {{"expected_max_bytes", absl::StrCat(bytes_max)}, {"actual_bytes", absl::StrCat(length)}});
  }
  // The reader lets go of its buffer, but a copy shares the slices.
  grpc::ByteBuffer shared(bytes);
  grpc::ProtoBufferReader reader(&shared);
  if (!reader.status().ok() || !message.ParseFromZeroCopyStream(&reader)) {
    return MakeError(Reason::kMessageMalformed,
                     absl::StrCat("the bytes are not a ", message.GetTypeName()),
                     {{"expected", message.GetTypeName()}});
  }
  return absl::OkStatus();
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message) {
  grpc::Slice slice(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(const_cast<uint8_t*>(slice.begin()));
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace normd
