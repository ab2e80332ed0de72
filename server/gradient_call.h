#ifndef NORMD_SERVER_GRADIENT_CALL_H_
#define NORMD_SERVER_GRADIENT_CALL_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/data_call.h"

namespace normd {

// An UpdateCall that steps weight and bias by gradients. Response has `optimizer_step` too.
template <typename Request, typename Response>
class GradientCall : public UpdateCall<Request, Response> {
 public:
  using UpdateCall<Request, Response>::UpdateCall;

 protected:
  std::optional<absl::StatusOr<Disposition>> Decide(const NormState& state) const override {
    return state.DecideGradients(gradients_, this->producer());
  }

  absl::Status Change(StateDraft& draft, absl::Time now) override {
    return draft.MutableSettings().ApplyGradients(gradients_, this->producer(), now,
                                                  this->context_.producer_limits);
  }

  void Tell(const NormState& state) override {
    this->response_.set_optimizer_step(state.optimizer_step);
  }

  Parameters gradients_;  // set by Compute
};

}  // namespace normd

#endif  // NORMD_SERVER_GRADIENT_CALL_H_
