#ifndef NORMD_SERVER_MESSAGE_STREAM_H_
#define NORMD_SERVER_MESSAGE_STREAM_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>

#include "core/base/limits.h"
#include "server/call_set.h"
#include "server/message_handler.h"

namespace normd {

// What one stream may hold at a time: requests being handled and responses not yet sent. Beyond it
// the stream is not read, which is the back-pressure on its client.
struct StreamLimits {
  int64_t messages_max = kDefaultStreamMessages;
  int64_t bytes_max = kDefaultStreamBytes;
};

// The transport of a bidirectional stream of messages: reads the next while others are handled,
// sends responses in the order of the requests. A message that is refused is answered in-band; an
// error of the server (EndsStream) ends the stream after the responses before it. `handler` and
// `calls` outlive the stream. Owned by gRPC and by the messages being handled.
grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* StartMessageStream(
    MessageHandler* handler, const StreamLimits& limits, CallSet* calls);

// The transport of a unary call: an error becomes the call's status.
grpc::ServerUnaryReactor* StartMessageCall(MessageHandler* handler,
                                           grpc::CallbackServerContext* context,
                                           const grpc::ByteBuffer* request,
                                           grpc::ByteBuffer* response);

}  // namespace normd

#endif  // NORMD_SERVER_MESSAGE_STREAM_H_
