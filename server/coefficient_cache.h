#ifndef NORMD_SERVER_COEFFICIENT_CACHE_H_
#define NORMD_SERVER_COEFFICIENT_CACHE_H_

#include <array>
#include <cstddef>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "core/norm/normalization.h"
#include "core/state/norm_state.h"
#include "core/tensor/data_type.h"

namespace normd {

// The coefficients of the values of states that small batches were normalized by lately: of a batch
// with a row or two they are most of the work, and change with the state alone. Holds kSlots at
// most, of kChannelsMax channels at most: 12 MiB. Thread-safe.
class CoefficientCache {
 public:
  static constexpr size_t kSlots = 256;
  static constexpr size_t kChannelsMax = 4096;

  CoefficientCache() = default;
  CoefficientCache(const CoefficientCache&) = delete;
  CoefficientCache& operator=(const CoefficientCache&) = delete;

  // The coefficients of `state` for `batch`; null where they are not worth it, are not there, or
  // cannot be (RunningCoefficients::Make). Made when a value is asked for again, so that many
  // states that take turns cost next to nothing. REQUIRES: the batch suits the state, which has
  // running statistics.
  std::shared_ptr<const RunningCoefficients> Find(const std::shared_ptr<const NormState>& state,
                                                  const Batch& batch);

 private:
  struct Slot {
    absl::Mutex mutex;
    // Of what, and what; null: they cannot be made. Keeps the place of the value in memory, so that
    // no other is taken for it, and not the value.
    std::weak_ptr<const NormState> state ABSL_GUARDED_BY(mutex);
    DataType dtype ABSL_GUARDED_BY(mutex) = DataType::kFloat32;
    std::shared_ptr<const RunningCoefficients> coefficients ABSL_GUARDED_BY(mutex);
    // What was asked for last and is not here. Not to be looked into: it may be gone.
    const NormState* missed ABSL_GUARDED_BY(mutex) = nullptr;
  };

  std::array<Slot, kSlots> slots_;
};

}  // namespace normd

#endif  // NORMD_SERVER_COEFFICIENT_CACHE_H_
