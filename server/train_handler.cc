#include "server/train_handler.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "core/norm/batch_norm.h"
#include "core/norm/moments.h"
#include "normd/v1/normalization_service.pb.h"
#include "server/convert.h"
#include "server/grpc_status.h"
#include "server/message_codec.h"

namespace normd {
namespace {

// One update from its request to its response.
class TrainCall final : public StateChange {
 public:
  TrainCall(const ProducerLimits* producer_limits, std::shared_ptr<MessageCall> call)
      : producer_limits_(producer_limits), call_(std::move(call)) {}

  absl::Status Parse(const grpc::ByteBuffer& bytes, int64_t bytes_max) {
    NORMD_RETURN_IF_ERROR(ParseMessage(bytes, bytes_max, request_));
    response_.set_sequence(request_.sequence());
    NORMD_ASSIGN_OR_RETURN(durability_, DurabilityFromWire(request_.durability()));
    if (request_.batch_case() == v1::TrainRequest::BATCH_NOT_SET) {
      return MakeError(Reason::kBatchMissing, "neither input nor moments is set, expected one",
                       {{"field", "batch"}});
    }
    return absl::OkStatus();
  }

  const std::string& state_name() const { return request_.state(); }
  const std::shared_ptr<MessageCall>& call() const { return call_; }

  // Computes what needs the batch's values: the moments and the output.
  absl::Status Compute(const NormState& state) {
    if (request_.has_moments()) {
      if (request_.return_output()) {
        return MakeError(Reason::kOutputNotPossible,
                         "return_output is set and the batch is moments, expected an input",
                         {{"field", "return_output"}});
      }
      moments_ = MomentsFromWire(request_.moments());
      // As with an input: what is wrong with the batch is told even when its sequence was decided.
      NORMD_RETURN_IF_ERROR(CheckMoments(moments_, state.config));
      NORMD_RETURN_IF_ERROR(CheckValuesPerChannel(moments_.count));
    } else {
      NORMD_RETURN_IF_ERROR(ComputeFromInput(state));
    }
    if (request_.return_moments()) MomentsToWire(moments_, *response_.mutable_moments());
    return absl::OkStatus();
  }

  // Answers with an error, before or instead of Submit.
  void Fail(const absl::Status& status) {
    v1::TrainResponse response;
    response.set_sequence(request_.sequence());
    *response.mutable_error() = ToRpcStatus(status);
    call_->Done(status, SerializeMessage(response));
  }

  Durability durability() const override { return durability_; }

  absl::Status Apply(StateDraft& draft, absl::Time now) override {
    if (draft.Get() == nullptr) return StateNotFound(request_.state());
    const ProducerSequence producer = {request_.producer_id(), request_.sequence()};
    Disposition disposition = Disposition::kApplied;
    int64_t revision = draft.Get()->revision;
    if (const auto decided = draft.Get()->Decide(moments_, producer); decided.has_value()) {
      NORMD_ASSIGN_OR_RETURN(disposition, *decided);
    } else {
      NORMD_RETURN_IF_ERROR(draft.Mutable().Fold(moments_, producer, now, *producer_limits_));
      revision = draft.next_revision();
    }
    response_.set_disposition(static_cast<v1::Disposition>(disposition));
    response_.set_revision(revision);
    response_.set_num_batches_tracked(draft.Get()->num_batches_tracked());
    create_time_ = draft.Get()->create_time;
    return absl::OkStatus();
  }

  void OnDone(const absl::Status& status, std::shared_ptr<const NormState> published) override {
    if (!status.ok()) {
      Fail(GetReason(status) == Reason::kStateNotFound
               ? status
               : Prefixed(status, absl::StrCat("state '", request_.state(), "': ")));
      return;
    }
    // What is on disk may still be a state of this name that was deleted since.
    if (published != nullptr && published->create_time == create_time_) {
      response_.set_durable_sequence(published->producers.Sequence(request_.producer_id()));
    }
    call_->Done(absl::OkStatus(), SerializeMessage(response_));
  }

 private:
  absl::Status ComputeFromInput(const NormState& state) {
    NORMD_ASSIGN_OR_RETURN(const TensorView tensor, TensorFromWire(request_.input()));
    NORMD_ASSIGN_OR_RETURN(const Batch batch, Batch::Create(tensor, state.config));
    NORMD_RETURN_IF_ERROR(CheckValuesPerChannel(batch.count()));
    NORMD_ASSIGN_OR_RETURN(moments_, ComputeBatchMoments(batch, state.config.non_finite));
    if (request_.return_output()) {
      v1::Tensor& output = *response_.mutable_output();
      output.set_dtype(request_.input().dtype());
      *output.mutable_shape() = request_.input().shape();
      output.set_layout(request_.input().layout());
      output.mutable_data()->resize(request_.input().data().size());
      NormalizeBatchByItself(batch, moments_, state.config.eps, state.weight, state.bias,
                             absl::MakeSpan(reinterpret_cast<float*>(output.mutable_data()->data()),
                                            batch.values().size()));
    }
    return absl::OkStatus();
  }

  // Constant after construction.
  const ProducerLimits* const producer_limits_;
  const std::shared_ptr<MessageCall> call_;

  v1::TrainRequest request_;
  v1::TrainResponse response_;
  Durability durability_ = Durability::kDurable;
  Moments moments_;
  absl::Time create_time_;  // of the state that Apply saw
};

}  // namespace

void TrainHandler::Handle(const grpc::ByteBuffer& request, std::shared_ptr<MessageCall> call) {
  auto train = std::make_unique<TrainCall>(&producer_limits_, std::move(call));
  if (absl::Status status = train->Parse(request, message_bytes_max_); !status.ok()) {
    const std::shared_ptr<MessageCall> answered = train->call();
    train->Fail(status);
    answered->Accepted();
    return;
  }
  const std::string& name = train->state_name();
  registry_->Acquire(
      name, [this, train = std::move(train)](absl::StatusOr<StateHandle> handle) mutable {
        const std::shared_ptr<MessageCall> answered = train->call();
        absl::Status status = handle.status();
        std::shared_ptr<const NormState> state;
        if (status.ok()) {
          state = handle->Get();
          status = state == nullptr ? StateNotFound(handle->name()) : train->Compute(*state);
          if (state != nullptr && !status.ok()) {
            status = Prefixed(status, absl::StrCat("state '", state->name, "': "));
          }
        }
        if (status.ok()) {
          registry_->Submit(*handle, std::move(train));
        } else {
          train->Fail(status);
        }
        answered->Accepted();
      });
}

}  // namespace normd
