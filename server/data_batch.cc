#include "server/data_batch.h"

#include <cstdint>

#include "core/norm/moments.h"

namespace normd {

absl::Status CheckHasVariance(const Batch& batch) {
  return CheckValuesPerSet(batch.count(), batch.kind(), static_cast<int64_t>(batch.samples()));
}

Affine AffineOf(const NormState& state) {
  return {.eps = state.config.eps,
          .eps_of_dtype = state.config.eps_of_dtype,
          .weight = state.weight,
          .bias = state.bias};
}

Running RunningOf(const NormState& state) {
  return {.mean = state.running_stats->mean, .var = state.running_stats->var};
}

}  // namespace normd
