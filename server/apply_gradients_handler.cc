#include "server/apply_gradients_handler.h"

#include <utility>

#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "normd/v1/normalization_service.pb.h"
#include "server/convert.h"
#include "server/data_call.h"
#include "server/gradient_call.h"

namespace normd {
namespace {

class ApplyGradientsCall final
    : public GradientCall<v1::ApplyGradientsRequest, v1::ApplyGradientsResponse> {
 public:
  using GradientCall::GradientCall;

 private:
  absl::Status Compute(const NormState& state) override {
    NORMD_ASSIGN_OR_RETURN(gradients_, GradientsFromWire(request_, state.config));
    return absl::OkStatus();
  }

  absl::Status CheckUpdate() override {
    if (request_.has_grad_weight() || request_.has_grad_bias()) return absl::OkStatus();
    return MakeError(Reason::kGradientsMissing,
                     "neither grad_weight nor grad_bias is set, expected one or both",
                     {{"field", "grad_weight"}});
  }
};

}  // namespace

void ApplyGradientsHandler::Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) {
  HandleDataCall<ApplyGradientsCall>(context_, request, std::move(call));
}

}  // namespace normd
