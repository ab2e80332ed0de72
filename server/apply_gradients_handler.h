#ifndef NORMD_SERVER_APPLY_GRADIENTS_HANDLER_H_
#define NORMD_SERVER_APPLY_GRADIENTS_HANDLER_H_

#include <memory>

#include "server/data_call.h"
#include "server/message_handler.h"

namespace normd {

// The work behind ApplyGradients: submits the step. Thread-safe.
class ApplyGradientsHandler final : public MessageHandler {
 public:
  explicit ApplyGradientsHandler(const DataContext& context) : context_(context) {}

  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) override;

 private:
  const DataContext context_;
};

}  // namespace normd

#endif  // NORMD_SERVER_APPLY_GRADIENTS_HANDLER_H_
