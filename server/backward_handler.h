#ifndef NORMD_SERVER_BACKWARD_HANDLER_H_
#define NORMD_SERVER_BACKWARD_HANDLER_H_

#include <memory>

#include "server/data_call.h"
#include "server/message_handler.h"

namespace normd {

// The work behind Backward and StreamBackward: computes the gradients of a batch by the published
// value of its state, and with `apply` submits the step. Thread-safe.
class BackwardHandler final : public MessageHandler {
 public:
  explicit BackwardHandler(const DataContext& context) : context_(context) {}

  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) override;

 private:
  const DataContext context_;
};

}  // namespace normd

#endif  // NORMD_SERVER_BACKWARD_HANDLER_H_
