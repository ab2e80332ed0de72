#ifndef NORMD_SERVER_MESSAGE_METHOD_H_
#define NORMD_SERVER_MESSAGE_METHOD_H_

#include <grpcpp/completion_queue.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>
#include <grpcpp/support/async_unary_call.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "core/base/limits.h"
#include "core/base/memory_budget.h"
#include "server/call_set.h"
#include "server/message_handler.h"
#include "server/serving_queue.h"
#include "server/unary_gate.h"

namespace normd {

// What one stream may hold at a time: requests that were read and responses not yet sent. Beyond it
// the stream is not read, which is the back-pressure on its client.
struct StreamLimits {
  int64_t messages_max = kDefaultStreamMessages;
  int64_t bytes_max = kDefaultStreamBytes;
};

// A method whose calls are one request and one response each. What it points to outlives its calls.
struct UnaryMethod {
  // Waits for the next call, as the generated service's Request<Method> does.
  std::function<void(grpc::ServerContext*, grpc::ByteBuffer*,
                     grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>*,
                     grpc::ServerCompletionQueue*, void* tag)>
      request = nullptr;
  MessageHandler* handler = nullptr;
  MemoryBudget* memory = nullptr;
  // Nothing for a method that is served to the end.
  UnaryGate* gate = nullptr;
  // What a call counts in `memory` beside its messages.
  int64_t call_bytes = kUnaryCallBytes;
};

// A method whose calls are streams of requests, each with a response.
struct StreamMethod {
  std::function<void(grpc::ServerContext*,
                     grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>*,
                     grpc::ServerCompletionQueue*, void* tag)>
      request = nullptr;
  MessageHandler* handler = nullptr;
  StreamLimits limits = {};
  CallSet* streams = nullptr;
  MemoryBudget* memory = nullptr;
};

// A method whose calls are one request and a stream of responses.
struct SubscriptionMethod {
  std::function<void(grpc::ServerContext*, grpc::ByteBuffer*,
                     grpc::ServerAsyncWriter<grpc::ByteBuffer>*, grpc::ServerCompletionQueue*,
                     void* tag)>
      request = nullptr;
  SubscriptionHandler* handler = nullptr;
  CallSet* calls = nullptr;
};

// Has `handler` handle a request, which it takes out, on this thread, which is one of `queue`.
void HandleMessage(MessageHandler* handler, grpc::ByteBuffer* request,
                   std::shared_ptr<MessageCall> call, ServingQueue* queue);

// Waits on a queue for a call of `method`, serves it and waits for the next at the same time, until
// the server is shut down. `method` outlives the queues. A request that is refused ends a unary
// call with the error's status; a stream answers it in-band and lives on, unless the error is the
// server's (EndsStream): that ends it after the responses before it. A stream's status comes
// with the metadata `server-timing`, as NormalizationService has it. Requests and responses are
// counted in the memory of their kind of call: without room a unary call is refused
// (LIMIT_REACHED), as it is behind a closed gate (SHUTTING_DOWN), and a stream is read only when it
// has nothing in hand, so that clients that never read their answers keep no other from being
// served. A subscription is asked for a message when the one before has been sent; what waits
// meanwhile is for its source to bound.
void ServeUnaryCalls(const UnaryMethod& method, ServingQueue* queue);
void ServeStreams(const StreamMethod& method, ServingQueue* queue);
void ServeSubscriptions(const SubscriptionMethod& method, ServingQueue* queue);

}  // namespace normd

#endif  // NORMD_SERVER_MESSAGE_METHOD_H_
