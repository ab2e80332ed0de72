#ifndef NORMD_CORE_REGISTRY_STATE_CHANGE_H_
#define NORMD_CORE_REGISTRY_STATE_CHANGE_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/registry/state_draft.h"
#include "core/state/norm_state.h"

namespace normd {

// When a change is answered. Same numbers as normd.v1.Durability.
enum class Durability {
  kDurable = 1,  // once it is on disk
  kRelaxed = 2,  // once it is applied
};

// One change of one state on its way through the write path, which owns it from Submit to the
// return of OnDone.
class StateChange {
 public:
  virtual ~StateChange() = default;

  virtual Durability durability() const { return Durability::kDurable; }

  // Applies the change to the newest value, or refuses it and leaves the draft alone. Called once,
  // in the order of arrival, under the write path's lock: must be quick, must not block nor call
  // back into the registry.
  virtual absl::Status Apply(StateDraft& draft, absl::Time now) = 0;

  // Answers. `status` is what Apply returned, given once everything that Apply saw is on disk (or
  // at once under kRelaxed, when it was OK), or the error of the write path: SHUTTING_DOWN,
  // STORE_FULL, STORE_UNAVAILABLE, WRITE_QUEUE_FULL, after which the change may or may not have
  // been applied. `published` is the value on disk, null when there is none. Called once, without
  // locks, on any thread; must not block.
  virtual void OnDone(const absl::Status& status, std::shared_ptr<const NormState> published) = 0;
};

}  // namespace normd

#endif  // NORMD_CORE_REGISTRY_STATE_CHANGE_H_
