#ifndef NORMD_SERVER_MESSAGE_HANDLER_H_
#define NORMD_SERVER_MESSAGE_HANDLER_H_

#include <grpcpp/support/byte_buffer.h>

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace normd {

// One request on its way: how the work answers the transport that brought it. Thread-safe.
class MessageCall {
 public:
  virtual ~MessageCall() = default;

  // The request has its place in the order of its state: the next message of the same stream may be
  // handled. Done says so too; called at most once, when Done is to come later.
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

  // Tells of requests that have come at once and are likely to be handled next, in this order, so
  // that the memory they need can be asked for all together. `requests` stay the caller's.
  virtual void Prefetch(absl::Span<grpc::ByteBuffer* const> /*requests*/) {}
};

// What a client that asked once is told from then on. Thread-safe.
class MessageSource {
 public:
  virtual ~MessageSource() = default;

  // Takes the next message to send; false when there is none now. Does not block.
  virtual bool Next(grpc::ByteBuffer* message) = 0;
};

// Work apart from transport for a method with one request and a stream of responses. Thread-safe.
class SubscriptionHandler {
 public:
  virtual ~SubscriptionHandler() = default;

  // Opens what the bytes of `request`, which it takes out, ask for. The source calls `wake`, on any
  // thread and with no lock that Next takes, whenever it may have a message; not once it is
  // destroyed. It is asked once without being woken. Errors end the call.
  virtual absl::StatusOr<std::unique_ptr<MessageSource>> Open(grpc::ByteBuffer* request,
                                                              std::function<void()> wake) = 0;
};

}  // namespace normd

#endif  // NORMD_SERVER_MESSAGE_HANDLER_H_
