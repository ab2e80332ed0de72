#ifndef NORMD_SERVER_APPLY_GRADIENTS_HANDLER_H_
#define NORMD_SERVER_APPLY_GRADIENTS_HANDLER_H_

#include <memory>

#include "server/data_handler.h"
#include "server/message_handler.h"

namespace normd {

// The work behind ApplyGradients: submits the step. Thread-safe.
class ApplyGradientsHandler final : public DataHandler {
 public:
  explicit ApplyGradientsHandler(const DataContext& context)
      : DataHandler(context, StateUse::kUpdate) {}

  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) override;
};

}  // namespace normd

#endif  // NORMD_SERVER_APPLY_GRADIENTS_HANDLER_H_
