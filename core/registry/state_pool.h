#ifndef NORMD_CORE_REGISTRY_STATE_POOL_H_
#define NORMD_CORE_REGISTRY_STATE_POOL_H_

#include <cstdint>
#include <memory>

#include "core/base/memory_budget.h"
#include "core/state/norm_state.h"

namespace normd {

// Copies of states, made in the memory of copies that nobody holds any more: every update of a
// state that was committed since its last one needs one, and malloc would have to give and take
// its arrays each time, mostly on two threads. Weight and bias are shared with the original, not
// copied. Thread-safe.
class StatePool {
 public:
  // `memory` outlives the pool; what the pool keeps, up to `bytes_max`, counts there as
  // MemoryUse::kWrites.
  StatePool(MemoryBudget* memory, int64_t bytes_max);
  // Copies may outlive the pool.
  ~StatePool();

  StatePool(const StatePool&) = delete;
  StatePool& operator=(const StatePool&) = delete;

  // A copy of `state`, whose memory, but for what it shares, is kept once it is let go of.
  std::shared_ptr<NormState> Copy(const NormState& state);

 private:
  struct Pooled;
  class Idle;
  template <typename T>
  class HolderCountAllocator;

  const std::shared_ptr<Idle> idle_;
};

}  // namespace normd

#endif  // NORMD_CORE_REGISTRY_STATE_POOL_H_
