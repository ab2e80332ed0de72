#ifndef NORMD_SERVER_BACKWARD_HANDLER_H_
#define NORMD_SERVER_BACKWARD_HANDLER_H_

#include <memory>

#include "server/data_handler.h"
#include "server/message_handler.h"

namespace normd {

// The work behind Backward and StreamBackward: computes the gradients of a batch by the published
// value of its state, and with `apply` submits the step. Thread-safe.
class BackwardHandler final : public DataHandler {
 public:
  explicit BackwardHandler(const DataContext& context) : DataHandler(context, StateUse::kRead) {}

  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) override;
};

}  // namespace normd

#endif  // NORMD_SERVER_BACKWARD_HANDLER_H_
