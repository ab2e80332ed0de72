#ifndef NORMD_CORE_REGISTRY_REGISTRY_OBSERVER_H_
#define NORMD_CORE_REGISTRY_REGISTRY_OBSERVER_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "core/state/norm_state.h"

namespace normd {

// Is told what the registry does. Called on the commit threads, without locks, for one state in
// the order of its revisions; must be quick and must not block.
class RegistryObserver {
 public:
  virtual ~RegistryObserver() = default;

  // A new value of the state is on disk and visible to readers. `state` is null when it was
  // deleted; `before` is the value replaced, null when it is new.
  virtual void OnPublished(const std::string& name, const std::shared_ptr<const NormState>& before,
                           const std::shared_ptr<const NormState>& state) = 0;

  // The store refuses writes for now; the same commit is tried again. Called once an episode.
  virtual void OnStoreBlocked(const absl::Status& status) = 0;
  // The store takes writes again.
  virtual void OnStoreUnblocked() = 0;

  // A commit failed in a way that leaves what is on disk unknown. Nothing is acknowledged any more;
  // the process must end and start anew.
  virtual void OnFatal(const absl::Status& status) = 0;
};

}  // namespace normd

#endif  // NORMD_CORE_REGISTRY_REGISTRY_OBSERVER_H_
