#ifndef NORMD_SERVER_COEFFICIENT_CACHE_H_
#define NORMD_SERVER_COEFFICIENT_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/base/limits.h"
#include "core/norm/normalization.h"
#include "core/state/norm_state.h"

namespace normd {

// The coefficients of states that small batches were normalized by lately: of a batch with a row or
// two they are most of the work, and change with the state alone. Holds kCoefficientSlots at most,
// each of kCoefficientChannelsMax channels at most. Thread-safe.
class CoefficientCache {
 public:
  CoefficientCache() = default;
  CoefficientCache(const CoefficientCache&) = delete;
  CoefficientCache& operator=(const CoefficientCache&) = delete;

  // The coefficients of `state` for `batch`; null where they are not worth it, are not there, or
  // cannot be (RunningCoefficients::Create). Made when a value is asked for again with no other of
  // its slot missed in between, so that many states that take turns cost a look; of states that
  // share a slot and take turns one may have them, or none. REQUIRES: the batch suits the state,
  // which has running statistics.
  std::shared_ptr<const RunningCoefficients> Find(const NormState& state, const Batch& batch);

 private:
  // The coefficients of a published value, and what tells it from all others.
  struct Kept {
    std::string name;
    absl::Time create_time;
    int64_t revision = 0;
    std::shared_ptr<const RunningCoefficients> coefficients;  // null: float32 does not hold them

    bool IsOf(const NormState& state) const {
      return revision == state.revision && create_time == state.create_time && name == state.name;
    }
  };

  struct alignas(64) Slot {
    absl::Mutex mutex;
    Kept kept ABSL_GUARDED_BY(mutex);
    // A hash of the value that was asked for last and was not there.
    size_t missed ABSL_GUARDED_BY(mutex) = 0;
  };

  std::array<Slot, kCoefficientSlots> slots_;
};

}  // namespace normd

#endif  // NORMD_SERVER_COEFFICIENT_CACHE_H_
