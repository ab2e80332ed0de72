#ifndef NORMD_SERVER_STATE_SERVICE_H_
#define NORMD_SERVER_STATE_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/base/memory_budget.h"
#include "core/registry/state_registry.h"
#include "normd/v1/state_service.grpc.pb.h"
#include "server/call_set.h"
#include "server/control_call.h"
#include "server/watch_hub.h"

namespace normd {

// The control methods.
class StateService final : public v1::StateService::CallbackService {
 public:
  struct Options {
    int64_t message_bytes_max = kDefaultMessageBytes;
    int64_t page_size_max = kPageSizeMax;
    int64_t watch_pending_states_max = kDefaultWatchPendingStates;
  };

  // Everything passed in outlives the service.
  StateService(const Options& options, StateRegistry* registry, MemoryBudget* memory,
               const Clock* clock, WatchHub* hub, CallSet* watches)
      : options_(options),
        registry_(registry),
        memory_(memory),
        clock_(clock),
        hub_(hub),
        watches_(watches) {}

  grpc::ServerUnaryReactor* CreateState(grpc::CallbackServerContext* context,
                                        const v1::CreateStateRequest* request,
                                        v1::State* response) override;
  grpc::ServerUnaryReactor* GetState(grpc::CallbackServerContext* context,
                                     const v1::GetStateRequest* request,
                                     v1::State* response) override;
  grpc::ServerUnaryReactor* ListStates(grpc::CallbackServerContext* context,
                                       const v1::ListStatesRequest* request,
                                       v1::ListStatesResponse* response) override;
  grpc::ServerUnaryReactor* UpdateState(grpc::CallbackServerContext* context,
                                        const v1::UpdateStateRequest* request,
                                        v1::State* response) override;
  grpc::ServerUnaryReactor* DeleteState(grpc::CallbackServerContext* context,
                                        const v1::DeleteStateRequest* request,
                                        google::protobuf::Empty* response) override;
  grpc::ServerUnaryReactor* SetParameters(grpc::CallbackServerContext* context,
                                          const v1::SetParametersRequest* request,
                                          v1::State* response) override;
  grpc::ServerUnaryReactor* ResetRunningStats(grpc::CallbackServerContext* context,
                                              const v1::ResetRunningStatsRequest* request,
                                              v1::State* response) override;
  grpc::ServerUnaryReactor* FreezeState(grpc::CallbackServerContext* context,
                                        const v1::FreezeStateRequest* request,
                                        v1::State* response) override;
  grpc::ServerUnaryReactor* UnfreezeState(grpc::CallbackServerContext* context,
                                          const v1::UnfreezeStateRequest* request,
                                          v1::State* response) override;
  grpc::ServerUnaryReactor* BeginCalibration(grpc::CallbackServerContext* context,
                                             const v1::BeginCalibrationRequest* request,
                                             v1::State* response) override;
  grpc::ServerUnaryReactor* CommitCalibration(grpc::CallbackServerContext* context,
                                              const v1::CommitCalibrationRequest* request,
                                              v1::State* response) override;
  grpc::ServerUnaryReactor* AbortCalibration(grpc::CallbackServerContext* context,
                                             const v1::AbortCalibrationRequest* request,
                                             v1::State* response) override;
  grpc::ServerWriteReactor<v1::WatchStatesResponse>* WatchStates(
      grpc::CallbackServerContext* context, const v1::WatchStatesRequest* request) override;

 private:
  // Edits a draft, or refuses to and leaves it alone; see StateChange::Apply.
  using Edit = absl::AnyInvocable<absl::Status(StateDraft&, absl::Time)>;

  // The server's end of a call with `request`, owned by gRPC.
  ControlCall* NewCall(const google::protobuf::Message& request) const;

  // Makes `edit` of the state `name` for `request` and answers with the state, or with nothing when
  // `response` is null.
  grpc::ServerUnaryReactor* Change(const google::protobuf::Message& request,
                                   const std::string& name, Edit edit, v1::State* response);
  // The same for a call that was admitted.
  grpc::ServerUnaryReactor* Change(ControlCall* call, const std::string& name, Edit edit,
                                   v1::State* response);

  const Options options_;
  StateRegistry* const registry_;
  MemoryBudget* const memory_;
  const Clock* const clock_;
  WatchHub* const hub_;
  CallSet* const watches_;
};

}  // namespace normd

#endif  // NORMD_SERVER_STATE_SERVICE_H_
