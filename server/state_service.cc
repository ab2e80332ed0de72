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
#include "google/protobuf/empty.pb.h"
#include "server/control_call.h"
#include "server/convert.h"
#include "server/convert_config.h"
#include "server/message_handler.h"

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
        return status.ok() ? status : OfState(status, name);
      };
}

// One control method's change, and its answer.
class ControlChange final : public StateChange {
 public:
  ControlChange(Edit edit, std::string name, bool deletes, std::shared_ptr<ControlCall> call)
      : edit_(std::move(edit)), name_(std::move(name)), deletes_(deletes), call_(std::move(call)) {}

  absl::Status Apply(StateDraft& draft, absl::Time now) override { return edit_(draft, now); }

  void OnDone(const absl::Status& status, std::shared_ptr<const NormState> published) override {
    if (!status.ok()) {
      call_->Refuse(status);
    } else if (deletes_) {
      call_->Answer(google::protobuf::Empty());
    } else if (published == nullptr) {
      // Deleted by a change that came right after this one.
      call_->Refuse(StateNotFound(name_));
    } else {
      call_->AddAnswer(published->MemoryBytes());
      v1::State response;
      StateToWire(*published, /*full=*/true, response);
      call_->Answer(response);
    }
  }

 private:
  Edit edit_;
  const std::string name_;
  const bool deletes_;
  const std::shared_ptr<ControlCall> call_;
};

Edit SetFrozen(const std::string& name, const std::string& etag, bool frozen) {
  return EditExisting(name, etag, [frozen](const NormState& state, StateDraft& draft) {
    if (state.frozen != frozen) draft.MutableSettings().frozen = frozen;
    return absl::OkStatus();
  });
}

absl::StatusOr<NormState> NewState(const v1::State& wire, absl::Time now) {
  NORMD_RETURN_IF_ERROR(CheckStateName(wire.name()));
  const auto prefixed = [&wire](const absl::Status& status) {
    return OfState(status, wire.name());
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

template <typename Request>
class StateService::Handler final : public MessageHandler {
 public:
  using Method = void (StateService::*)(const Call<Request>&);

  Handler(StateService* service, Method method) : service_(service), method_(method) {}

  void Handle(grpc::ByteBuffer* request, std::shared_ptr<MessageCall> transport) override {
    const auto call =
        std::make_shared<ControlRequest<Request>>(service_->memory_, std::move(transport));
    const absl::Status status = call->Parse(request, service_->options_.message_bytes_max);
    if (status.ok()) {
      (service_->*method_)(call);
    } else {
      call->Refuse(status);
    }
  }

 private:
  StateService* const service_;
  const Method method_;
};

template <typename RequestMethod, typename Request>
void StateService::AddControl(RequestMethod request,
                              void (StateService::*method)(const Call<Request>&)) {
  handlers_.push_back(std::make_unique<Handler<Request>>(this, method));
  Add(request, UnaryMethod{.handler = handlers_.back().get(), .memory = memory_, .gate = gate_});
}

StateService::StateService(const Options& options, StateRegistry* registry, MemoryBudget* memory,
                           const Clock* clock, WatchHub* hub, UnaryGate* gate, CallSet* watches)
    : MessageService(/*unary_calls_awaited=*/2),
      options_(options),
      registry_(registry),
      memory_(memory),
      clock_(clock),
      gate_(gate),
      watch_handler_(hub, options.watch_pending_states_max, options.message_bytes_max) {
  using Async = AsyncStateService;
  AddControl(&Async::RequestCreateState, &StateService::CreateState);
  AddControl(&Async::RequestGetState, &StateService::GetState);
  AddControl(&Async::RequestListStates, &StateService::ListStates);
  AddControl(&Async::RequestUpdateState, &StateService::UpdateState);
  AddControl(&Async::RequestDeleteState, &StateService::DeleteState);
  AddControl(&Async::RequestSetParameters, &StateService::SetParameters);
  AddControl(&Async::RequestResetRunningStats, &StateService::ResetRunningStats);
  AddControl(&Async::RequestFreezeState, &StateService::FreezeState);
  AddControl(&Async::RequestUnfreezeState, &StateService::UnfreezeState);
  AddControl(&Async::RequestBeginCalibration, &StateService::BeginCalibration);
  AddControl(&Async::RequestCommitCalibration, &StateService::CommitCalibration);
  AddControl(&Async::RequestAbortCalibration, &StateService::AbortCalibration);
  Add(&Async::RequestWatchStates, SubscriptionMethod{.handler = &watch_handler_, .calls = watches});
}

void StateService::CreateState(const Call<v1::CreateStateRequest>& call) {
  const v1::CreateStateRequest& request = call->request();
  absl::StatusOr<NormState> state = NewState(request.state(), clock_->Now());
  if (!state.ok()) return call->Refuse(state.status());
  Edit create = [state = *std::move(state), replace = request.replace(), etag = request.etag()](
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
  Change(call, request.state().name(), std::move(create));
}

void StateService::GetState(const Call<v1::GetStateRequest>& call) {
  const absl::StatusOr<bool> full =
      IsFullView(call->request().view(), /*unspecified_is_full=*/true);
  if (!full.ok()) return call->Refuse(full.status());
  registry_->Acquire(call->request().name(),
                     [this, call, full = *full](absl::StatusOr<StateHandle> handle) {
                       if (!handle.ok()) return call->Refuse(handle.status());
                       const std::shared_ptr<const NormState> state = handle->Get();
                       if (state == nullptr) return call->Refuse(StateNotFound(handle->name()));
                       if (!call->TryAddAnswer(full ? state->MemoryBytes() : 0)) {
                         return call->Refuse(memory_->NoRoom(MemoryUse::kCalls));
                       }
                       v1::State response;
                       StateToWire(*state, full, response);
                       call->Answer(response);
                     });
}

void StateService::ListStates(const Call<v1::ListStatesRequest>& call) {
  const v1::ListStatesRequest& request = call->request();
  const absl::StatusOr<bool> full = IsFullView(request.view(), /*unspecified_is_full=*/false);
  if (!full.ok()) return call->Refuse(full.status());
  if (absl::Status status = CheckStateNamePrefix(request.prefix()); !status.ok()) {
    return call->Refuse(status);
  }
  if (request.page_size() < 0) {
    return call->Refuse(
        MakeError(Reason::kPageSizeInvalid,
                  absl::StrCat("page_size is ", request.page_size(), ", expected >= 0"),
                  {{"field", "page_size"}}));
  }
  const absl::StatusOr<std::string> after =
      PageTokenFromWire(request.prefix(), request.page_token());
  if (!after.ok()) return call->Refuse(after.status());
  const int64_t page_size = std::min<int64_t>(
      request.page_size() == 0 ? kDefaultPageSize : request.page_size(), options_.page_size_max);
  registry_->List(
      request.prefix(), *after, page_size,
      [this, call, full = *full](absl::StatusOr<StatePage> page) {
        if (!page.ok()) return call->Refuse(page.status());
        // One page a loader thread is made at a time, room or not.
        v1::ListStatesResponse response;
        for (const auto& state : page->states) StateToWire(*state, full, *response.add_states());
        for (const std::string& name : page->damaged) response.add_damaged(name);
        response.set_next_page_token(PageTokenToWire(call->request().prefix(), page->next_after));
        if (!call->TryAddAnswer(static_cast<int64_t>(response.SpaceUsedLong()))) {
          return call->Refuse(memory_->NoRoom(MemoryUse::kCalls));
        }
        call->Answer(response);
      });
}

void StateService::UpdateState(const Call<v1::UpdateStateRequest>& call) {
  const v1::UpdateStateRequest& request = call->request();
  Change(call, request.state().name(),
         EditExisting(request.state().name(), request.etag(),
                      [call](const NormState& state, StateDraft& draft) -> absl::Status {
                        NORMD_ASSIGN_OR_RETURN(
                            const NormConfig config,
                            UpdatedConfig(state.config, call->request().state().config(),
                                          call->request().update_mask()));
                        return draft.MutableSettings().UpdateConfig(config);
                      }));
}

void StateService::DeleteState(const Call<v1::DeleteStateRequest>& call) {
  const v1::DeleteStateRequest& request = call->request();
  Change(call, request.name(),
         EditExisting(request.name(), request.etag(),
                      [](const NormState&, StateDraft& draft) {
                        draft.Delete();
                        return absl::OkStatus();
                      }),
         /*deletes=*/true);
}

void StateService::SetParameters(const Call<v1::SetParametersRequest>& call) {
  const v1::SetParametersRequest& request = call->request();
  if (absl::Status status = CheckStateName(request.name()); !status.ok()) {
    return call->Refuse(status);
  }
  absl::StatusOr<Parameters> parameters = ParametersFromWire(request.parameters());
  if (parameters.ok() && !parameters->weight.has_value() && !parameters->bias.has_value()) {
    parameters = MakeError(
        Reason::kParametersLengthMismatch, "neither weight nor bias is set, expected one or both",
        {{"field", "parameters"}, {"expected", "weight, bias or both"}, {"actual", "none"}});
  }
  if (!parameters.ok()) {
    return call->Refuse(OfState(parameters.status(), request.name()));
  }
  Change(call, request.name(),
         EditExisting(request.name(), request.etag(),
                      [call, parameters = *std::move(parameters)](
                          const NormState& state, StateDraft& draft) mutable -> absl::Status {
                        NORMD_RETURN_IF_ERROR(
                            CheckParameterShapes(call->request().parameters(), state.config));
                        return draft.MutableSettings().SetParameters(std::move(parameters));
                      }));
}

void StateService::ResetRunningStats(const Call<v1::ResetRunningStatsRequest>& call) {
  Change(call, call->request().name(),
         EditExisting(call->request().name(), /*etag=*/"", [](const NormState&, StateDraft& draft) {
           return draft.Mutable().ResetRunningStats();
         }));
}

void StateService::FreezeState(const Call<v1::FreezeStateRequest>& call) {
  Change(call, call->request().name(),
         SetFrozen(call->request().name(), call->request().etag(), true));
}

void StateService::UnfreezeState(const Call<v1::UnfreezeStateRequest>& call) {
  Change(call, call->request().name(),
         SetFrozen(call->request().name(), call->request().etag(), false));
}

void StateService::BeginCalibration(const Call<v1::BeginCalibrationRequest>& call) {
  const v1::BeginCalibrationRequest& request = call->request();
  if (absl::Status status = CheckStateName(request.name()); !status.ok()) {
    return call->Refuse(status);
  }
  const absl::StatusOr<CalibrationMethod> method = CalibrationMethodFromWire(request.method());
  if (!method.ok()) return call->Refuse(OfState(method.status(), request.name()));
  Change(call, request.name(),
         EditExisting(request.name(), request.etag(),
                      [method = *method](const NormState&, StateDraft& draft) {
                        return draft.Mutable().BeginCalibration(method);
                      }));
}

void StateService::CommitCalibration(const Call<v1::CommitCalibrationRequest>& call) {
  const v1::CommitCalibrationRequest& request = call->request();
  Change(call, request.name(),
         EditExisting(request.name(), request.etag(),
                      [id = request.calibration_id()](const NormState&, StateDraft& draft) {
                        return draft.Mutable().CommitCalibration(id);
                      }));
}

void StateService::AbortCalibration(const Call<v1::AbortCalibrationRequest>& call) {
  const v1::AbortCalibrationRequest& request = call->request();
  Change(call, request.name(),
         EditExisting(request.name(), request.etag(),
                      [id = request.calibration_id()](const NormState&, StateDraft& draft) {
                        return draft.Mutable().AbortCalibration(id);
                      }));
}

void StateService::Change(std::shared_ptr<ControlCall> call, const std::string& name, Edit edit,
                          bool deletes) {
  auto change = std::make_unique<ControlChange>(std::move(edit), name, deletes, std::move(call));
  registry_->Acquire(
      name, [this, change = std::move(change)](absl::StatusOr<StateHandle> handle) mutable {
        if (handle.ok()) {
          registry_->Submit(*handle, std::move(change));
        } else {
          change->OnDone(handle.status(), nullptr);
        }
      });
}

}  // namespace normd
