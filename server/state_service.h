#ifndef NORMD_SERVER_STATE_SERVICE_H_
#define NORMD_SERVER_STATE_SERVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/memory_budget.h"
#include "core/registry/state_registry.h"
#include "normd/v1/state_service.grpc.pb.h"
#include "server/call_set.h"
#include "server/control_call.h"
#include "server/message_service.h"
#include "server/watch_handler.h"
#include "server/watch_hub.h"

namespace normd {

// The generated service of the control methods, each on raw bytes.
using AsyncStateService = v1::StateService::WithRawMethod_CreateState<
    v1::StateService::WithRawMethod_GetState<v1::StateService::WithRawMethod_ListStates<
        v1::StateService::WithRawMethod_UpdateState<v1::StateService::WithRawMethod_DeleteState<
            v1::StateService::WithRawMethod_SetParameters<
                v1::StateService::WithRawMethod_ResetRunningStats<
                    v1::StateService::WithRawMethod_FreezeState<
                        v1::StateService::WithRawMethod_UnfreezeState<
                            v1::StateService::WithRawMethod_BeginCalibration<
                                v1::StateService::WithRawMethod_CommitCalibration<
                                    v1::StateService::WithRawMethod_AbortCalibration<
                                        v1::StateService::WithRawMethod_WatchStates<
                                            v1::StateService::Service>>>>>>>>>>>>>;

// The control methods.
class StateService final : public MessageService<AsyncStateService> {
 public:
  struct Options {
    int64_t message_bytes_max = kDefaultMessageBytes;
    int64_t page_size_max = kPageSizeMax;
    int64_t watch_pending_states_max = kDefaultWatchPendingStates;
  };

  // Everything passed in outlives the service.
  StateService(const Options& options, StateRegistry* registry, MemoryBudget* memory,
               const Clock* clock, WatchHub* hub, UnaryGate* gate, CallSet* watches);

 private:
  // Edits a draft, or refuses to and leaves it alone; see StateChange::Apply.
  using Edit = absl::AnyInvocable<absl::Status(StateDraft&, absl::Time)>;
  // A call with a request that was parsed.
  template <typename Request>
  using Call = std::shared_ptr<ControlRequest<Request>>;
  template <typename Request>
  class Handler;

  // Makes `method` the work behind the method that AsyncStateService takes by `request`.
  template <typename RequestMethod, typename Request>
  void AddControl(RequestMethod request, void (StateService::*method)(const Call<Request>&));

  void CreateState(const Call<v1::CreateStateRequest>& call);
  void GetState(const Call<v1::GetStateRequest>& call);
  void ListStates(const Call<v1::ListStatesRequest>& call);
  void UpdateState(const Call<v1::UpdateStateRequest>& call);
  void DeleteState(const Call<v1::DeleteStateRequest>& call);
  void SetParameters(const Call<v1::SetParametersRequest>& call);
  void ResetRunningStats(const Call<v1::ResetRunningStatsRequest>& call);
  void FreezeState(const Call<v1::FreezeStateRequest>& call);
  void UnfreezeState(const Call<v1::UnfreezeStateRequest>& call);
  void BeginCalibration(const Call<v1::BeginCalibrationRequest>& call);
  void CommitCalibration(const Call<v1::CommitCalibrationRequest>& call);
  void AbortCalibration(const Call<v1::AbortCalibrationRequest>& call);

  // Makes `edit` of the state `name` and answers `call` with what is published then: the state, or
  // Empty when the edit deletes it (`deletes`).
  void Change(std::shared_ptr<ControlCall> call, const std::string& name, Edit edit,
              bool deletes = false);

  const Options options_;
  StateRegistry* const registry_;
  MemoryBudget* const memory_;
  const Clock* const clock_;
  UnaryGate* const gate_;
  WatchHandler watch_handler_;
  std::vector<std::unique_ptr<MessageHandler>> handlers_;
};

}  // namespace normd

#endif  // NORMD_SERVER_STATE_SERVICE_H_
