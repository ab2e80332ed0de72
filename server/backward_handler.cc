#include "server/backward_handler.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "core/norm/moments.h"
#include "core/norm/normalization.h"
#include "normd/v1/normalization_service.pb.h"
#include "server/convert.h"
#include "server/data_batch.h"
#include "server/data_call.h"
#include "server/gradient_call.h"

namespace normd {
namespace {

// "FLOAT32 [8,32] CHANNELS_FIRST".
std::string Describe(const TensorView& tensor) {
  return absl::StrCat(
      DataTypeName(tensor.dtype()), " ", ShapeToString(tensor.shape()),
      tensor.layout() == Layout::kChannelsLast ? " CHANNELS_LAST" : " CHANNELS_FIRST");
}

absl::Status CheckSameForm(const TensorView& grad_output, const TensorView& input) {
  if (grad_output.shape() == input.shape() && grad_output.dtype() == input.dtype() &&
      grad_output.layout() == input.layout()) {
    return absl::OkStatus();
  }
  const std::string expected = Describe(input);
  const std::string actual = Describe(grad_output);
  return MakeError(
      Reason::kGradientShapeMismatch,
      absl::StrCat("input is ", expected, ", grad_output is ", actual, ", expected the same"),
      {{"field", "grad_output"}, {"expected", expected}, {"actual", actual}});
}

class BackwardCall final : public GradientCall<v1::BackwardRequest, v1::BackwardResponse> {
 public:
  using GradientCall::GradientCall;

  bool changes_state() const override { return request_.apply(); }

 private:
  absl::Span<const wire::TensorField> tensor_fields() const override {
    static constexpr wire::TensorField kFields[] = {{v1::BackwardRequest::kInputFieldNumber},
                                                    {v1::BackwardRequest::kGradOutputFieldNumber}};
    return kFields;
  }

  // The gradients, by the parameters as they are before any step.
  absl::Status Compute(const NormState& state) override {
    response_.set_revision(state.revision);
    response_.set_parameters_revision(state.revision);
    NORMD_ASSIGN_OR_RETURN(const TensorView input, RequestTensor(0, request_.input()));
    NORMD_ASSIGN_OR_RETURN(const Batch batch, Batch::Create(input, state.config));
    const absl::StatusOr<TensorView> grad_output = RequestTensor(1, request_.grad_output());
    if (!grad_output.ok()) return Prefixed(grad_output.status(), "grad_output: ");
    NORMD_RETURN_IF_ERROR(CheckSameForm(*grad_output, input));
    char* const grad_input = request_.omit_grad_input()
                                 ? nullptr
                                 : MakeResponseTensor(v1::BackwardResponse::kGradInputFieldNumber,
                                                      input, request_.input());
    NORMD_ASSIGN_OR_RETURN(Gradients gradients,
                           ComputeGradients(state, batch, grad_output->bytes(), grad_input));
    if (state.config.affine) TakeGradients(std::move(gradients), state.config);
    is_empty_ = batch.num_elements() == 0;
    return absl::OkStatus();
  }

  void Tell(const NormState& state) override {
    GradientCall::Tell(state);
    if (response_.disposition() != v1::DUPLICATE) return;
    // Taken by parameters that the step itself, or later ones, have moved.
    response_tensor_.Clear();
    response_.clear_grad_weight();
    response_.clear_grad_bias();
    response_.clear_parameters_revision();
  }

  absl::Status CheckUpdate() override {
    if (request_.mode() < v1::BackwardRequest::MODE_UNSPECIFIED ||
        request_.mode() > v1::BackwardRequest::EVAL) {
      return MakeError(Reason::kModeUnknown,
                       absl::StrCat("mode is ", static_cast<int>(request_.mode()),
                                    ", expected TRAIN (1) or EVAL (2)"),
                       {{"field", "mode"}});
    }
    if (!request_.has_input()) {
      return MakeError(Reason::kBatchMissing, "input is not set, expected a tensor",
                       {{"field", "input"}});
    }
    if (!request_.has_grad_output()) {
      return MakeError(Reason::kGradientsMissing, "grad_output is not set, expected a tensor",
                       {{"field", "grad_output"}});
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Gradients> ComputeGradients(const NormState& state, const Batch& batch,
                                             const TensorBytes& grad_output,
                                             char* grad_input) const {
    const NormConfig& config = state.config;
    if (request_.mode() == v1::BackwardRequest::EVAL && state.running_stats.has_value()) {
      return BackwardByRunning(batch, grad_output, RunningOf(state), AffineOf(state), config.affine,
                               grad_input, context_.runner);
    }
    NORMD_RETURN_IF_ERROR(CheckHasVariance(batch));
    NORMD_ASSIGN_OR_RETURN(const Moments moments, MomentsOf(batch, config));
    return BackwardByItself(batch, grad_output, moments, AffineOf(state), config.affine, grad_input,
                            context_.runner);
  }

  // Those of the forward call when they were sent, else computed anew.
  absl::StatusOr<Moments> MomentsOf(const Batch& batch, const NormConfig& config) const {
    if (!request_.has_moments()) {
      return ComputeBatchMoments(batch, config.non_finite, context_.runner);
    }
    Moments moments = MomentsFromWire(request_.moments());
    NORMD_RETURN_IF_ERROR(CheckSavedMoments(moments, static_cast<int64_t>(batch.sets()),
                                            batch.count(), config.non_finite));
    return moments;
  }

  void TakeGradients(Gradients gradients, const NormConfig& config) {
    ParameterToWire(gradients.weight, config, *response_.mutable_grad_weight());
    gradients_.weight = std::move(gradients.weight);
    if (!HasBias(config)) return;
    ParameterToWire(gradients.bias, config, *response_.mutable_grad_bias());
    gradients_.bias = std::move(gradients.bias);
  }

  std::optional<absl::StatusOr<Disposition>> Decide(const NormState& state) const override {
    auto decided = GradientCall::Decide(state);
    // Its gradients are 0, by which a momentum would still move the parameters.
    if (!decided.has_value() && is_empty_) return Disposition::kApplied;
    return decided;
  }

  bool is_empty_ = false;  // the batch has no values
};

}  // namespace

void BackwardHandler::Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) {
  HandleDataCall<BackwardCall>(context_, request, std::move(call));
}

}  // namespace normd
