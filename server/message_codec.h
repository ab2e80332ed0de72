#ifndef NORMD_SERVER_MESSAGE_CODEC_H_
#define NORMD_SERVER_MESSAGE_CODEC_H_

#include <grpcpp/support/byte_buffer.h>

#include <cstdint>

#include "absl/status/status.h"
#include "google/protobuf/message_lite.h"

namespace normd {

// Parses the bytes of a request. Errors: MESSAGE_TOO_LARGE (more than `bytes_max`),
// MESSAGE_MALFORMED.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, int64_t bytes_max,
                          google::protobuf::MessageLite& message);

// The bytes of a response.
grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message);

}  // namespace normd

#endif  // NORMD_SERVER_MESSAGE_CODEC_H_
