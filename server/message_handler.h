#ifndef NORMD_SERVER_MESSAGE_HANDLER_H_
#define NORMD_SERVER_MESSAGE_HANDLER_H_

#include <grpcpp/support/byte_buffer.h>

#include <memory>

#include "absl/status/status.h"

namespace normd {

// One request on its way: how the work answers the transport that brought it. Thread-safe.
class MessageCall {
 public:
  virtual ~MessageCall() = default;

  // The request has its place in the order of its state: the next message of the same stream may be
  // handled. Called once, before or after Done.
  virtual void Accepted() = 0;

  // Answers. `response` is the message to send; when `status` is not OK it tells of it in-band, for
  // a transport that lives on. Called once, on any thread, without locks; does not block.
  virtual void Done(const absl::Status& status, grpc::ByteBuffer response) = 0;
};

// Work apart from transport: bytes in, bytes out, done. One handler stands behind the unary and the
// streaming form of a method. Thread-safe.
class MessageHandler {
 public:
  virtual ~MessageHandler() = default;

  // Handles the bytes of one request, which it takes out of `request`, partly on this thread; does
  // not wait for a disk.
  virtual void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) = 0;
};

}  // namespace normd

#endif  // NORMD_SERVER_MESSAGE_HANDLER_H_
