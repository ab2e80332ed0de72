#include "core/norm/running_stats.h"

namespace normd {

RunningStats RunningStats::Initial(int64_t num_features) {
  return {.mean = std::vector<double>(num_features, 0.0),
          .var = std::vector<double>(num_features, 1.0),
          .num_batches_tracked = 0};
}

void RunningStats::Fold(const Moments& batch, const NormConfig& config) {
  if (config.kind != NormKind::kInstanceNorm) ++num_batches_tracked;
  const double factor = config.momentum.has_value()
                            ? *config.momentum
                            : 1.0 / static_cast<double>(num_batches_tracked);
  const double keep = 1.0 - factor;
  const double var_factor =
      factor / static_cast<double>(batch.count - config.running_var_correction);
  for (size_t c = 0; c < mean.size(); ++c) {
    mean[c] = keep * mean[c] + factor * batch.mean[c];
    var[c] = keep * var[c] + var_factor * batch.m2[c];
  }
}

}  // namespace normd
