#include "server/state_service.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/base/names.h"
#include "core/base/status_macros.h"
#include "server/control_call.h"
#include "server/convert.h"
#include "server/convert_config.h"
#include "server/grpc_status.h"
#include "server/message_codec.h"
#include "server/watch_stream.h"

namespace normd {
namespace {

// As StateService::Edit.
using Edit = absl::AnyInvocable<absl::Status(StateDraft&, absl::Time)>;

// `edit` for a state that must be there and, when `etag` is not empty, have it.
template <typename F>
Edit EditExisting(const std::string& name, const std::string& etag, F edit) {
  return
      [name, etag, edit = std::move(edit)](StateDraft& draft, absl::Time) mutable -> absl::Status {
        const NormState* state = draft.Get();
        if (state == nullptr) return StateNotFound(name);
        absl::Status status = state->CheckEtag(etag);
        if (status.ok()) status = edit(*state, draft);
        return status.ok() ? status : Prefixed(status, absl::StrCat("state '", name, "': "));
      };
}

// One control method's change, and its answer.
class ControlChange final : public StateChange {
 public:
  ControlChange(Edit edit, std::string name, ControlCall* call, v1::State* response)
      : edit_(std::move(edit)), name_(std::move(name)), call_(call), response_(response) {}

  absl::Status Apply(StateDraft& draft, absl::Time now) override { return edit_(draft, now); }

  void OnDone(const absl::Status& status, std::shared_ptr<const NormState> published) override {
    absl::Status result = status;
    if (status.ok() && response_ != nullptr) {
      if (published == nullptr) {
        // Deleted by a change that came right after this one.
        result = StateNotFound(name_);
      } else {
        call_->AddAnswer(published->MemoryBytes());
        StateToWire(*published, /*full=*/true, *response_);
      }
    }
    call_->Finish(ToGrpcStatus(result));
  }

 private:
  Edit edit_;
  const std::string name_;
  ControlCall* const call_;
  v1::State* const response_;
};

grpc::ServerUnaryReactor* Refuse(grpc::ServerUnaryReactor* reactor, const absl::Status& status) {
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

Edit SetFrozen(const std::string& name, const std::string& etag, bool frozen) {
  return EditExisting(name, etag, [frozen](const NormState& state, StateDraft& draft) {
    if (state.frozen != frozen) draft.MutableSettings().frozen = frozen;
    return absl::OkStatus();
  });
}

absl::StatusOr<NormState> NewState(const v1::State& wire, absl::Time now) {
  NORMD_RETURN_IF_ERROR(CheckStateName(wire.name()));
  const auto prefixed = [&wire](const absl::Status& status) {
    return Prefixed(status, absl::StrCat("state '", wire.name(), "': "));
  };
  const absl::StatusOr<NormConfig> config = ConfigFromWire(wire.config());
  if (!config.ok()) return prefixed(config.status());
  // First the ranges: the initial values are read by the shape of the weight.
  if (absl::Status status = CheckNormConfig(*config); !status.ok()) return prefixed(status);
  absl::StatusOr<InitialValues> initial = InitialValuesFromWire(wire, *config);
  if (!initial.ok()) return prefixed(initial.status());
  absl::StatusOr<NormState> state =
      NormState::Create(wire.name(), *config, *std::move(initial), now);
  if (!state.ok()) return prefixed(state.status());
  return state;
}

}  // namespace

ControlCall* StateService::NewCall(const google::protobuf::Message& request) const {
  return new ControlCall(memory_, static_cast<int64_t>(request.ByteSizeLong()),
                         options_.message_bytes_max);
}

grpc::ServerUnaryReactor* StateService::Change(const google::protobuf::Message& request,
                                               const std::string& name, Edit edit,
                                               v1::State* response) {
  ControlCall* const call = NewCall(request);
  if (!call->admitted().ok()) return Refuse(call, call->admitted());
  return Change(call, name, std::move(edit), response);
}

grpc::ServerUnaryReactor* StateService::Change(ControlCall* call, const std::string& name,
                                               Edit edit, v1::State* response) {
  auto change = std::make_unique<ControlChange>(std::move(edit), name, call, response);
  registry_->Acquire(
      name, [this, change = std::move(change)](absl::StatusOr<StateHandle> handle) mutable {
        if (handle.ok()) {
          registry_->Submit(*handle, std::move(change));
        } else {
          change->OnDone(handle.status(), nullptr);
        }
      });
  return call;
}

grpc::ServerUnaryReactor* StateService::CreateState(grpc::CallbackServerContext* /*context*/,
                                                    const v1::CreateStateRequest* request,
                                                    v1::State* response) {
  ControlCall* const call = NewCall(*request);
  if (!call->admitted().ok()) return Refuse(call, call->admitted());
  absl::StatusOr<NormState> state = NewState(request->state(), clock_->Now());
  if (!state.ok()) return Refuse(call, state.status());
  Edit create = [state = *std::move(state), replace = request->replace(), etag = request->etag()](
                    StateDraft& draft, absl::Time) mutable {
    if (draft.Get() == nullptr) {
      if (!etag.empty()) return StateNotFound(state.name);
    } else if (!replace) {
      return MakeError(Reason::kStateAlreadyExists,
                       absl::StrCat("state '", state.name, "' exists already"),
                       {{"name", state.name}});
    } else {
      NORMD_RETURN_IF_ERROR(draft.Get()->CheckEtag(etag));
      draft.Delete();
    }
    draft.Create(std::move(state));
    return absl::OkStatus();
  };
  return Change(call, request->state().name(), std::move(create), response);
}

grpc::ServerUnaryReactor* StateService::GetState(grpc::CallbackServerContext* /*context*/,
                                                 const v1::GetStateRequest* request,
                                                 v1::State* response) {
  ControlCall* const call = NewCall(*request);
  if (!call->admitted().ok()) return Refuse(call, call->admitted());
  const absl::StatusOr<bool> full = IsFullView(request->view(), /*unspecified_is_full=*/true);
  if (!full.ok()) return Refuse(call, full.status());
  registry_->Acquire(request->name(),
                     [this, call, full = *full, response](absl::StatusOr<StateHandle> handle) {
                       absl::Status status = handle.status();
                       if (status.ok()) {
                         const std::shared_ptr<const NormState> state = handle->Get();
                         if (state == nullptr) {
                           status = StateNotFound(handle->name());
                         } else if (!call->TryAddAnswer(full ? state->MemoryBytes() : 0)) {
                           status = memory_->NoRoom(MemoryUse::kCalls);
                         } else {
                           StateToWire(*state, full, *response);
                         }
                       }
                       call->Finish(ToGrpcStatus(status));
                     });
  return call;
}

grpc::ServerUnaryReactor* StateService::ListStates(grpc::CallbackServerContext* /*context*/,
                                                   const v1::ListStatesRequest* request,
                                                   v1::ListStatesResponse* response) {
  ControlCall* const call = NewCall(*request);
  if (!call->admitted().ok()) return Refuse(call, call->admitted());
  const absl::StatusOr<bool> full = IsFullView(request->view(), /*unspecified_is_full=*/false);
  if (!full.ok()) return Refuse(call, full.status());
  if (absl::Status status = CheckStateNamePrefix(request->prefix()); !status.ok()) {
    return Refuse(call, status);
  }
  if (request->page_size() < 0) {
    return Refuse(call,
                  MakeError(Reason::kPageSizeInvalid,
                            absl::StrCat("page_size is ", request->page_size(), ", expected >= 0"),
                            {{"field", "page_size"}}));
  }
  const absl::StatusOr<std::string> after =
      PageTokenFromWire(request->prefix(), request->page_token());
  if (!after.ok()) return Refuse(call, after.status());
  const int64_t page_size = std::min<int64_t>(
      request->page_size() == 0 ? kDefaultPageSize : request->page_size(), options_.page_size_max);
  registry_->List(request->prefix(), *after, page_size,
                  [this, call, response, full = *full,
                   prefix = request->prefix()](absl::StatusOr<StatePage> page) {
                    absl::Status status = page.status();
                    if (status.ok()) {
                      // One page a loader thread is made at a time, room or not.
                      for (const auto& state : page->states) {
                        StateToWire(*state, full, *response->add_states());
                      }
                      for (const std::string& name : page->damaged) response->add_damaged(name);
                      response->set_next_page_token(PageTokenToWire(prefix, page->next_after));
                      if (!call->TryAddAnswer(static_cast<int64_t>(response->SpaceUsedLong()))) {
                        status = memory_->NoRoom(MemoryUse::kCalls);
                        response->Clear();
                      }
                    }
                    call->Finish(ToGrpcStatus(status));
                  });
  return call;
}

grpc::ServerUnaryReactor* StateService::UpdateState(grpc::CallbackServerContext* /*context*/,
                                                    const v1::UpdateStateRequest* request,
                                                    v1::State* response) {
  return Change(*request, request->state().name(),
                EditExisting(request->state().name(), request->etag(),
                             [request](const NormState& state, StateDraft& draft) -> absl::Status {
                               NORMD_ASSIGN_OR_RETURN(
                                   const NormConfig config,
                                   UpdatedConfig(state.config, request->state().config(),
                                                 request->update_mask()));
                               return draft.MutableSettings().UpdateConfig(config);
                             }),
                response);
}

grpc::ServerUnaryReactor* StateService::DeleteState(grpc::CallbackServerContext* /*context*/,
                                                    const v1::DeleteStateRequest* request,
                                                    google::protobuf::Empty* /*response*/) {
  return Change(*request, request->name(),
                EditExisting(request->name(), request->etag(),
                             [](const NormState&, StateDraft& draft) {
                               draft.Delete();
                               return absl::OkStatus();
                             }),
                /*response=*/nullptr);
}

grpc::ServerUnaryReactor* StateService::SetParameters(grpc::CallbackServerContext* /*context*/,
                                                      const v1::SetParametersRequest* request,
                                                      v1::State* response) {
  ControlCall* const call = NewCall(*request);
  if (!call->admitted().ok()) return Refuse(call, call->admitted());
  if (absl::Status status = CheckStateName(request->name()); !status.ok()) {
    return Refuse(call, status);
  }
  absl::StatusOr<Parameters> parameters = ParametersFromWire(request->parameters());
  if (parameters.ok() && !parameters->weight.has_value() && !parameters->bias.has_value()) {
    parameters = MakeError(
        Reason::kParametersLengthMismatch, "neither weight nor bias is set, expected one or both",
        {{"field", "parameters"}, {"expected", "weight, bias or both"}, {"actual", "none"}});
  }
  if (!parameters.ok()) {
    return Refuse(call,
                  Prefixed(parameters.status(), absl::StrCat("state '", request->name(), "': ")));
  }
  return Change(
      call, request->name(),
      EditExisting(request->name(), request->etag(),
                   [request, parameters = *std::move(parameters)](
                       const NormState& state, StateDraft& draft) mutable -> absl::Status {
                     NORMD_RETURN_IF_ERROR(
                         CheckParameterShapes(request->parameters(), state.config));
                     return draft.MutableSettings().SetParameters(std::move(parameters));
                   }),
      response);
}

grpc::ServerUnaryReactor* StateService::ResetRunningStats(
    grpc::CallbackServerContext* /*context*/, const v1::ResetRunningStatsRequest* request,
    v1::State* response) {
  return Change(*request, request->name(),
                EditExisting(request->name(), /*etag=*/"",
                             [](const NormState&, StateDraft& draft) {
                               return draft.Mutable().ResetRunningStats();
                             }),
                response);
}

grpc::ServerUnaryReactor* StateService::FreezeState(grpc::CallbackServerContext* /*context*/,
                                                    const v1::FreezeStateRequest* request,
                                                    v1::State* response) {
  return Change(*request, request->name(), SetFrozen(request->name(), request->etag(), true),
                response);
}

grpc::ServerUnaryReactor* StateService::UnfreezeState(grpc::CallbackServerContext* /*context*/,
                                                      const v1::UnfreezeStateRequest* request,
                                                      v1::State* response) {
  return Change(*request, request->name(), SetFrozen(request->name(), request->etag(), false),
                response);
}

grpc::ServerUnaryReactor* StateService::BeginCalibration(grpc::CallbackServerContext* /*context*/,
                                                         const v1::BeginCalibrationRequest* request,
                                                         v1::State* response) {
  ControlCall* const call = NewCall(*request);
  if (!call->admitted().ok()) return Refuse(call, call->admitted());
  if (absl::Status status = CheckStateName(request->name()); !status.ok()) {
    return Refuse(call, status);
  }
  const absl::StatusOr<CalibrationMethod> method = CalibrationMethodFromWire(request->method());
  if (!method.ok()) {
    return Refuse(call, Prefixed(method.status(), absl::StrCat("state '", request->name(), "': ")));
  }
  return Change(call, request->name(),
                EditExisting(request->name(), request->etag(),
                             [method = *method](const NormState&, StateDraft& draft) {
                               return draft.Mutable().BeginCalibration(method);
                             }),
                response);
}

grpc::ServerUnaryReactor* StateService::CommitCalibration(
    grpc::CallbackServerContext* /*context*/, const v1::CommitCalibrationRequest* request,
    v1::State* response) {
  return Change(*request, request->name(),
                EditExisting(request->name(), request->etag(),
                             [request](const NormState&, StateDraft& draft) {
                               return draft.Mutable().CommitCalibration(request->calibration_id());
                             }),
                response);
}

grpc::ServerUnaryReactor* StateService::AbortCalibration(grpc::CallbackServerContext* /*context*/,
                                                         const v1::AbortCalibrationRequest* request,
                                                         v1::State* response) {
  return Change(*request, request->name(),
                EditExisting(request->name(), request->etag(),
                             [request](const NormState&, StateDraft& draft) {
                               return draft.Mutable().AbortCalibration(request->calibration_id());
                             }),
                response);
}

grpc::ServerWriteReactor<v1::WatchStatesResponse>* StateService::WatchStates(
    grpc::CallbackServerContext* /*context*/, const v1::WatchStatesRequest* request) {
  const absl::Status admitted =
      CheckMessageBytes(static_cast<int64_t>(request->ByteSizeLong()), options_.message_bytes_max);
  return StartWatchStream(admitted, hub_, request->prefix(), options_.watch_pending_states_max,
                          watches_);
}

}  // namespace normd
