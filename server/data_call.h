#ifndef NORMD_SERVER_DATA_CALL_H_
#define NORMD_SERVER_DATA_CALL_H_

#include <grpcpp/support/byte_buffer.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/error.h"
#include "core/base/status_macros.h"
#include "core/registry/state_registry.h"
#include "server/convert.h"
#include "server/data_handler.h"
#include "server/grpc_status.h"
#include "server/message_codec.h"
#include "server/message_handler.h"

// What the handlers of the data methods share: a request's way from its bytes to its answer.
namespace normd {

// One request and its response. Request has `state` and `sequence`; Response has `sequence` and,
// when the method has a stream, `error`.
template <typename Request, typename Response>
class DataCall {
 public:
  DataCall(const DataContext& context, grpc::ByteBuffer* request,
           std::shared_ptr<MessageCall> transport)
      : context_(context), request_bytes_(request), transport_(std::move(transport)) {}
  virtual ~DataCall() = default;

  DataCall(const DataCall&) = delete;
  DataCall& operator=(const DataCall&) = delete;

  // Parses the request and checks what needs no state. Called once, first.
  absl::Status Parse() {
    NORMD_RETURN_IF_ERROR(
        request_bytes_.Parse(context_.message_bytes_max, tensor_fields(), request_));
    response_.set_sequence(request_.sequence());
    return Check();
  }

  const std::string& state_name() const { return request_.state(); }

  // Computes what the published value is enough for, and lets go of the tensors. Called once, after
  // Parse.
  absl::Status ComputeOnce(const NormState& state) {
    absl::Status status = Compute(state);
    request_bytes_.Clear();
    return status;
  }

  // Answers with the response, or with an error and the sequence alone. Called once, last.
  void Answer(const absl::Status& status) {
    if (!status.ok()) {
      response_.Clear();
      response_tensor_.Clear();
      response_.set_sequence(request_.sequence());
      if constexpr (requires { response_.mutable_error(); }) {
        *response_.mutable_error() = ToRpcStatus(status);
      }
    }
    transport_->Done(status, response_tensor_.Serialize(response_));
  }

 protected:
  // The fields whose tensors stay in the request's bytes; `request_` has no data of theirs.
  virtual absl::Span<const wire::TensorField> tensor_fields() const { return {}; }
  // The rest of Parse.
  virtual absl::Status Check() = 0;
  virtual absl::Status Compute(const NormState& state) = 0;

  // The tensor of tensor_fields()[index], whose other fields are `head`. Valid while Compute runs.
  // Errors: those of TensorFromWire.
  absl::StatusOr<TensorView> RequestTensor(size_t index, const v1::Tensor& head) const {
    return TensorFromWire(head, TensorBytes(request_bytes_.TensorPieces(index)));
  }

  // Makes the field `number` of the response a tensor like `view`, which came with `head`, and
  // returns its bytes to be filled.
  char* MakeResponseTensor(int number, const TensorView& view, const v1::Tensor& head) {
    return response_tensor_.Begin(number, head, view.bytes().size(), *context_.buffers);
  }

  const DataContext& context_;
  Request request_;
  Response response_;
  ResponseTensor response_tensor_;

 private:
  RequestBytes request_bytes_;
  const std::shared_ptr<MessageCall> transport_;
};

// A call that may change the state, exactly once by the producer's sequence. Request has
// `producer_id` and `durability` too, Response `disposition`, `revision` and `durable_sequence`.
template <typename Request, typename Response>
class UpdateCall : public DataCall<Request, Response>, public StateChange {
 public:
  using DataCall<Request, Response>::DataCall;

  // Whether the call goes on to the write path after Compute; else it is answered then.
  virtual bool changes_state() const { return true; }

  Durability durability() const override { return durability_; }

  absl::Status Apply(StateDraft& draft, absl::Time now) override {
    if (draft.Get() == nullptr) return StateNotFound(this->state_name());
    Disposition disposition = Disposition::kApplied;
    int64_t revision = draft.Get()->revision;
    if (const auto decided = Decide(*draft.Get()); decided.has_value()) {
      NORMD_ASSIGN_OR_RETURN(disposition, *decided);
    } else {
      NORMD_RETURN_IF_ERROR(Change(draft, now));
      revision = draft.next_revision();
    }
    this->response_.set_disposition(static_cast<v1::Disposition>(disposition));
    this->response_.set_revision(revision);
    Tell(*draft.Get());
    create_time_ = draft.Get()->create_time;
    return absl::OkStatus();
  }

  void OnDone(const absl::Status& status, std::shared_ptr<const NormState> published) override {
    if (!status.ok()) {
      this->Answer(GetReason(status) == Reason::kStateNotFound
                       ? status
                       : OfState(status, this->state_name()));
      return;
    }
    // What is on disk may still be a state of this name that was deleted since.
    if (published != nullptr && published->create_time == create_time_) {
      this->response_.set_durable_sequence(
          published->producers.Sequence(this->request_.producer_id()));
    }
    this->Answer(absl::OkStatus());
  }

 protected:
  absl::Status Check() override {
    NORMD_ASSIGN_OR_RETURN(durability_, DurabilityFromWire(this->request_.durability()));
    return CheckUpdate();
  }

  ProducerSequence producer() const {
    return {this->request_.producer_id(), this->request_.sequence()};
  }

  // The rest of Check.
  virtual absl::Status CheckUpdate() = 0;
  // What becomes of the update when it changes nothing; see NormState::Decide.
  virtual std::optional<absl::StatusOr<Disposition>> Decide(const NormState& state) const = 0;
  // Changes the state, or refuses to and leaves it alone.
  virtual absl::Status Change(StateDraft& draft, absl::Time now) = 0;
  // Puts into the response what `state` is after the update.
  virtual void Tell(const NormState& state) = 0;

 private:
  Durability durability_ = Durability::kDurable;
  absl::Time create_time_;  // of the state that Apply saw
};

// Lets `call` compute on what `handle` holds. Errors: those of the handle, STATE_NOT_FOUND, those
// of Compute.
template <typename Call>
absl::Status ComputeCall(const absl::StatusOr<StateHandle>& handle, Call& call) {
  NORMD_RETURN_IF_ERROR(handle.status());
  const std::shared_ptr<const NormState> state = handle->Get();
  if (state == nullptr) return StateNotFound(handle->name());
  const absl::Status status = call.ComputeOnce(*state);
  return status.ok() ? status : OfState(status, state->name);
}

// Computes, and then submits or answers.
template <typename Call>
void RunDataCall(StateRegistry* registry, const absl::StatusOr<StateHandle>& handle,
                 std::unique_ptr<Call> call, MessageCall& transport) {
  const absl::Status status = ComputeCall(handle, *call);
  if constexpr (std::derived_from<Call, StateChange>) {
    if (status.ok() && call->changes_state()) {
      registry->Submit(*handle, std::move(call));
      transport.Accepted();
      return;
    }
  }
  call->Answer(status);
}

// MessageHandler::Handle of a method whose requests are `Call`s: DataCalls or UpdateCalls.
template <typename Call>
void HandleDataCall(const DataContext& context, grpc::ByteBuffer* request,
                    std::shared_ptr<MessageCall> transport) {
  auto call = std::make_unique<Call>(context, request, transport);
  if (absl::Status status = call->Parse(); !status.ok()) {
    call->Answer(status);
    return;
  }
  StateRegistry* const registry = context.registry;
  if (std::optional<StateHandle> handle = registry->TryAcquire(call->state_name());
      handle.has_value()) {
    RunDataCall(registry, *std::move(handle), std::move(call), *transport);
    return;
  }
  const std::string& name = call->state_name();
  registry->Acquire(name, [registry, call = std::move(call), transport = std::move(transport)](
                              const absl::StatusOr<StateHandle>& handle) mutable {
    RunDataCall(registry, handle, std::move(call), *transport);
  });
}

}  // namespace normd

#endif  // NORMD_SERVER_DATA_CALL_H_
