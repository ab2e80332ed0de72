#include "server/normalize_handler.h"

#include <utility>

#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "core/norm/moments.h"
#include "core/norm/normalization.h"
#include "normd/v1/normalization_service.pb.h"
#include "server/convert.h"
#include "server/data_batch.h"
#include "server/data_call.h"

namespace normd {
namespace {

class NormalizeCall final : public DataCall<v1::NormalizeRequest, v1::NormalizeResponse> {
 public:
  using DataCall::DataCall;

 private:
  absl::Span<const wire::TensorField> tensor_fields() const override {
    static constexpr wire::TensorField kFields[] = {{v1::NormalizeRequest::kInputFieldNumber}};
    return kFields;
  }

  absl::Status Check() override {
    if (request_.has_input()) return absl::OkStatus();
    return MakeError(Reason::kBatchMissing, "input is not set, expected a tensor",
                     {{"field", "input"}});
  }

  // The output, by the running statistics or, when there are none, by the batch's own.
  absl::Status Compute(const NormState& state) override {
    response_.set_revision(state.revision);
    return state.running_stats.has_value() ? ComputeByRunning(state) : ComputeByItself(state);
  }

  // What is not finite stays in its own value.
  absl::Status ComputeByRunning(const NormState& state) {
    NORMD_ASSIGN_OR_RETURN(const TensorView input, RequestTensor(0, request_.input()));
    NORMD_ASSIGN_OR_RETURN(const Batch batch, Batch::Create(input, state.config));
    char* const output = MakeOutput(input);
    if (const auto coefficients = context_.coefficients->Find(state, batch)) {
      NormalizeByRunning(batch, *coefficients, output, context_.runner);
    } else {
      NormalizeByRunning(batch, RunningOf(state), AffineOf(state), output, context_.runner);
    }
    return absl::OkStatus();
  }

  // What is not finite is refused, by the state's policy.
  absl::Status ComputeByItself(const NormState& state) {
    NORMD_ASSIGN_OR_RETURN(const TensorView input, RequestTensor(0, request_.input()));
    NORMD_ASSIGN_OR_RETURN(const Batch batch, Batch::Create(input, state.config));
    NORMD_RETURN_IF_ERROR(CheckHasVariance(batch));
    const NonFinitePolicy non_finite = state.config.non_finite;
    char* const output = MakeOutput(input);
    if (batch.kind() != NormKind::kBatchNorm) {
      return NormalizeBySamples(batch, non_finite, AffineOf(state), output, context_.runner);
    }
    return NormalizeAndComputeMoments(batch, non_finite, AffineOf(state), output, context_.runner)
        .status();
  }

  char* MakeOutput(const TensorView& input) {
    return MakeResponseTensor(v1::NormalizeResponse::kOutputFieldNumber, input, request_.input());
  }
};

}  // namespace

void NormalizeHandler::Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) {
  HandleDataCall<NormalizeCall>(context_, request, std::move(call));
}

}  // namespace normd
