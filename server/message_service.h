#ifndef NORMD_SERVER_MESSAGE_SERVICE_H_
#define NORMD_SERVER_MESSAGE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <utility>
#include <vector>

#include "server/message_method.h"
#include "server/serving_queue.h"

namespace normd {

// A service whose methods take raw bytes from a completion queue. AsyncService is the generated
// service, WithRawMethod_ of each of its methods. No service uses gRPC's callback or synchronous
// API: their threads poll the connections that the completion queue polls, and wake it for
// nothing.
template <typename AsyncService>
class MessageService {
 public:
  MessageService(const MessageService&) = delete;
  MessageService& operator=(const MessageService&) = delete;

  // For grpc::ServerBuilder::RegisterService.
  grpc::Service* service() { return &service_; }

  // Waits for calls on `queue`, whose server has started, until that is shut down. Called once. The
  // service outlives the queue.
  void Serve(ServingQueue* queue) {
    for (const UnaryMethod& method : unary_methods_) {
      for (int i = 0; i < unary_calls_awaited_; ++i) ServeUnaryCalls(method, queue);
    }
    for (const StreamMethod& method : stream_methods_) ServeStreams(method, queue);
    for (const SubscriptionMethod& method : subscription_methods_) {
      ServeSubscriptions(method, queue);
    }
  }

 protected:
  // `unary_calls_awaited` calls of a method can be taken up at once; more wait for their turn.
  explicit MessageService(int unary_calls_awaited) : unary_calls_awaited_(unary_calls_awaited) {}
  ~MessageService() = default;

  // Before Serve. `request` is AsyncService's Request<Method>; what `method` has besides, the
  // caller fills in.
  template <typename Request>
  void Add(Request request, UnaryMethod method) {
    method.request = OneRequest(request);
    unary_methods_.push_back(std::move(method));
  }
  template <typename Request>
  void Add(Request request, StreamMethod method) {
    method.request = [this, request](auto* context, auto* stream, auto* queue, void* tag) {
      (service_.*request)(context, stream, queue, queue, tag);
    };
    stream_methods_.push_back(std::move(method));
  }
  template <typename Request>
  void Add(Request request, SubscriptionMethod method) {
    method.request = OneRequest(request);
    subscription_methods_.push_back(std::move(method));
  }

 private:
  // Waits for a call of a method that has one request.
  template <typename Request>
  auto OneRequest(Request request) {
    return [this, request](auto* context, auto* bytes, auto* writer, auto* queue, void* tag) {
      (service_.*request)(context, bytes, writer, queue, queue, tag);
    };
  }

  const int unary_calls_awaited_;
  AsyncService service_;
  std::vector<UnaryMethod> unary_methods_;
  std::vector<StreamMethod> stream_methods_;
  std::vector<SubscriptionMethod> subscription_methods_;
};

}  // namespace normd

#endif  // NORMD_SERVER_MESSAGE_SERVICE_H_
