#ifndef NORMD_SERVER_NORMALIZATION_SERVICE_H_
#define NORMD_SERVER_NORMALIZATION_SERVICE_H_

#include "normd/v1/normalization_service.grpc.pb.h"
#include "server/message_service.h"

namespace normd {

// The generated service of the data methods, each on raw bytes.
using AsyncNormalizationService = v1::NormalizationService::WithRawMethod_Train<
    v1::NormalizationService::WithRawMethod_StreamTrain<
        v1::NormalizationService::WithRawMethod_Normalize<
            v1::NormalizationService::WithRawMethod_StreamNormalize<
                v1::NormalizationService::WithRawMethod_Backward<
                    v1::NormalizationService::WithRawMethod_StreamBackward<
                        v1::NormalizationService::WithRawMethod_ApplyGradients<
                            v1::NormalizationService::Service>>>>>>>;

// The data methods: each goes to a MessageHandler.
class NormalizationService final : public MessageService<AsyncNormalizationService> {
 public:
  // The work behind the methods.
  struct Handlers {
    MessageHandler* train = nullptr;
    MessageHandler* normalize = nullptr;
    MessageHandler* backward = nullptr;
    MessageHandler* apply_gradients = nullptr;
  };

  // Everything passed in outlives the service.
  NormalizationService(const Handlers& handlers, const StreamLimits& stream_limits,
                       CallSet* streams, UnaryGate* gate, MemoryBudget* memory);
};

}  // namespace normd

#endif  // NORMD_SERVER_NORMALIZATION_SERVICE_H_
