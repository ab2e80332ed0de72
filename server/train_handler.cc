#include "server/train_handler.h"

#include <optional>
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

namespace normd {
namespace {

class TrainCall final : public UpdateCall<v1::TrainRequest, v1::TrainResponse> {
 public:
  using UpdateCall::UpdateCall;

 private:
  absl::Span<const wire::TensorField> tensor_fields() const override {
    static constexpr wire::TensorField kFields[] = {
        {v1::TrainRequest::kInputFieldNumber, v1::TrainRequest::kMomentsFieldNumber}};
    return kFields;
  }

  // The moments and the output.
  absl::Status Compute(const NormState& state) override {
    NORMD_ASSIGN_OR_RETURN(const Moments moments, request_.has_moments() ? TakeMoments(state.config)
                                                                         : ComputeFromInput(state));
    if (request_.return_moments()) MomentsToWire(moments, *response_.mutable_moments());
    return absl::OkStatus();
  }

  absl::Status CheckUpdate() override {
    if (request_.batch_case() == v1::TrainRequest::BATCH_NOT_SET) {
      return MakeError(Reason::kBatchMissing, "neither input nor moments is set, expected one",
                       {{"field", "batch"}});
    }
    // It would be folded into the running statistics for good.
    if (!request_.calibrate() && !request_.calibration_id().empty()) {
      return MakeError(Reason::kFieldNotApplicable,
                       "calibration_id is set and calibrate is not, expected both or neither",
                       {{"field", "calibration_id"}});
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Moments> TakeMoments(const NormConfig& config) {
    if (request_.return_output()) {
      return MakeError(Reason::kOutputNotPossible,
                       "return_output is set and the batch is moments, expected an input",
                       {{"field", "return_output"}});
    }
    Moments moments = MomentsFromWire(request_.moments());
    // As with an input: what is wrong with the batch is told even when its sequence was decided.
    NORMD_RETURN_IF_ERROR(CheckBatchMoments(moments, config));
    NORMD_RETURN_IF_ERROR(CheckValuesPerSet(moments.count, config.kind));
    folded_ = PerChannel(moments, config);
    return moments;
  }

  absl::StatusOr<Moments> ComputeFromInput(const NormState& state) {
    NORMD_ASSIGN_OR_RETURN(const TensorView input, RequestTensor(0, request_.input()));
    NORMD_ASSIGN_OR_RETURN(const Batch batch, Batch::Create(input, state.config));
    NORMD_RETURN_IF_ERROR(CheckHasVariance(batch));
    if (request_.return_moments()) NORMD_RETURN_IF_ERROR(CheckAnswerFits(batch, input));
    const NonFinitePolicy non_finite = state.config.non_finite;
    char* const output =
        request_.return_output()
            ? MakeResponseTensor(v1::TrainResponse::kOutputFieldNumber, input, request_.input())
            : nullptr;
    // What folds nothing needs no moments, however many sets there are.
    if (!CanTrackRunningStats(state.config.kind) && !request_.return_moments()) {
      NORMD_RETURN_IF_ERROR(
          NormalizeBySamples(batch, non_finite, AffineOf(state), output, context_.runner));
      return Moments();
    }
    NORMD_ASSIGN_OR_RETURN(Moments moments,
                           output == nullptr
                               ? ComputeBatchMoments(batch, non_finite, context_.runner)
                               : NormalizeAndComputeMoments(batch, non_finite, AffineOf(state),
                                                            output, context_.runner));
    folded_ = PerChannel(moments, state.config);
    return moments;
  }

  // OK when the moments, and the output where it is asked for, fit a message.
  absl::Status CheckAnswerFits(const Batch& batch, const TensorView& input) const {
    const auto moments_bytes = static_cast<int64_t>(batch.sets() * 2 * sizeof(double));
    const auto output_bytes =
        request_.return_output() ? static_cast<int64_t>(input.bytes().size()) : 0;
    if (moments_bytes <= context_.message_bytes_max - output_bytes) return absl::OkStatus();
    return MakeError(
        Reason::kMessageTooLarge,
        absl::StrCat("the answer would have ", output_bytes, " bytes of output and ", moments_bytes,
                     " of moments (", batch.sets(), " sets), expected at most ",
                     context_.message_bytes_max, " (--message-bytes-max)"),
        {{"field", "return_moments"},
         {"expected_max_bytes", absl::StrCat(context_.message_bytes_max)},
         {"actual_bytes", absl::StrCat(output_bytes + moments_bytes)}});
  }

  FoldInto into() const {
    return request_.calibrate() ? FoldInto::kCalibration : FoldInto::kRunningStats;
  }

  std::optional<absl::StatusOr<Disposition>> Decide(const NormState& state) const override {
    return state.Decide(folded_, producer(), into(), request_.calibration_id());
  }

  absl::Status Change(StateDraft& draft, absl::Time now) override {
    return draft.Mutable().Fold(folded_, producer(), now, context_.producer_limits, into());
  }

  void Tell(const NormState& state) override {
    response_.set_num_batches_tracked(state.num_batches_tracked());
  }

  Moments folded_;  // as PerChannel gives them
};

}  // namespace

void TrainHandler::Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> call) {
  HandleDataCall<TrainCall>(context_, request, std::move(call));
}

}  // namespace normd
