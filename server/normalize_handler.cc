#include "server/normalize_handler.h"

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

// Normalizes `input` by the running statistics of `state`, or by its own when there are none.
absl::Status Compute(const NormState& state, const v1::Tensor& input, v1::Tensor& output) {
  NORMD_ASSIGN_OR_RETURN(const TensorView tensor, TensorFromWire(input));
  NORMD_ASSIGN_OR_RETURN(const Batch batch, Batch::Create(tensor, state.config));
  output.set_dtype(input.dtype());
  *output.mutable_shape() = input.shape();
  output.set_layout(input.layout());
  output.mutable_data()->resize(input.data().size());
  const absl::Span<float> values = absl::MakeSpan(
      reinterpret_cast<float*>(output.mutable_data()->data()), batch.values().size());
  // Moments refuse what is not finite; with running statistics it stays in its own value.
  if (state.running_stats.has_value()) {
    NormalizeBatch(batch,
                   {.mean = state.running_stats->mean,
                    .var = state.running_stats->var,
                    .eps = state.config.eps,
                    .weight = state.weight,
                    .bias = state.bias},
                   values);
    return absl::OkStatus();
  }
  NORMD_RETURN_IF_ERROR(CheckValuesPerChannel(batch.count()));
  NORMD_ASSIGN_OR_RETURN(const Moments moments,
                         ComputeBatchMoments(batch, state.config.non_finite));
  NormalizeBatchByItself(batch, moments, state.config.eps, state.weight, state.bias, values);
  return absl::OkStatus();
}

absl::Status Normalize(const absl::StatusOr<StateHandle>& handle,
                       const v1::NormalizeRequest& request, v1::NormalizeResponse& response) {
  NORMD_RETURN_IF_ERROR(handle.status());
  const std::shared_ptr<const NormState> state = handle->Get();
  if (state == nullptr) return StateNotFound(request.state());
  response.set_revision(state->revision);
  const absl::Status status = Compute(*state, request.input(), *response.mutable_output());
  return status.ok() ? status : Prefixed(status, absl::StrCat("state '", state->name, "': "));
}

void Answer(const absl::Status& status, v1::NormalizeResponse response, MessageCall& call) {
  if (!status.ok()) {
    const int64_t sequence = response.sequence();
    response.Clear();
    response.set_sequence(sequence);
    *response.mutable_error() = ToRpcStatus(status);
  }
  call.Done(status, SerializeMessage(response));
  call.Accepted();
}

}  // namespace

void NormalizeHandler::Handle(const grpc::ByteBuffer& bytes, std::shared_ptr<MessageCall> call) {
  auto request = std::make_unique<v1::NormalizeRequest>();
  absl::Status status = ParseMessage(bytes, message_bytes_max_, *request);
  if (status.ok() && !request->has_input()) {
    status = MakeError(Reason::kBatchMissing, "input is not set, expected a tensor",
                       {{"field", "input"}});
  }
  v1::NormalizeResponse response;
  response.set_sequence(request->sequence());
  if (!status.ok()) {
    Answer(status, std::move(response), *call);
    return;
  }
  const std::string& name = request->state();
  registry_->Acquire(name,
                     [request = std::move(request), response = std::move(response),
                      call = std::move(call)](const absl::StatusOr<StateHandle>& handle) mutable {
                       const absl::Status normalized = Normalize(handle, *request, response);
                       Answer(normalized, std::move(response), *call);
                     });
}

}  // namespace normd
