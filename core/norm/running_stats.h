#ifndef NORMD_CORE_NORM_RUNNING_STATS_H_
#define NORMD_CORE_NORM_RUNNING_STATS_H_

#include <cstdint>
#include <vector>

#include "core/norm/moments.h"
#include "core/norm/norm_config.h"

namespace normd {

// PyTorch's buffers, kept in float64. A value; thread-compatible.
struct RunningStats {
  std::vector<double> mean;  // [C]
  std::vector<double> var;   // [C]
  int64_t num_batches_tracked = 0;

  // Mean 0, variance 1, no batch: what a new module has and reset_running_stats() sets.
  static RunningStats Initial(int64_t num_features);

  // Folds one batch: num_batches_tracked grows by 1, then running = (1 - f) running + f batch with
  // f = momentum, or 1 / num_batches_tracked when cumulative; the batch's variance is
  // m2 / (count - running_var_correction). torch/nn/modules/batchnorm.py, _BatchNorm.forward.
  // kInstanceNorm does not count: num_batches_tracked stays.
  // REQUIRES: `batch` passes CheckMoments and has count >= 2.
  void Fold(const Moments& batch, const NormConfig& config);
};

}  // namespace normd

#endif  // NORMD_CORE_NORM_RUNNING_STATS_H_
