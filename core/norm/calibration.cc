#include "core/norm/calibration.h"

#include <utility>

namespace normd {

Calibration Calibration::Begin(CalibrationMethod method, int64_t num_features) {
  Calibration calibration;
  calibration.method = method;
  calibration.mean.assign(num_features, 0.0);
  calibration.spread.assign(num_features, 0.0);
  return calibration;
}

void Calibration::Add(const Moments& batch, const NormConfig& config) {
  ++num_batches;
  if (method == CalibrationMethod::kPooled) {
    Moments pooled = {.count = count, .mean = std::move(mean), .m2 = std::move(spread)};
    Merge(batch, pooled);
    mean = std::move(pooled.mean);
    spread = std::move(pooled.m2);
  } else {
    // In the order of update_bn, which sets momentum None: weights 1 / k of the new value.
    const double factor = 1.0 / static_cast<double>(num_batches);
    const double keep = 1.0 - factor;
    const double var_factor =
        factor / static_cast<double>(batch.count - config.running_var_correction);
    for (size_t c = 0; c < mean.size(); ++c) {
      mean[c] = keep * mean[c] + factor * batch.mean[c];
      spread[c] = keep * spread[c] + var_factor * batch.m2[c];
    }
  }
  count = SaturatingSum(count, batch.count);
}

RunningStats Calibration::Finish(const NormConfig& config) const {
  RunningStats stats = {.mean = mean, .var = spread};
  if (config.kind != NormKind::kInstanceNorm) stats.num_batches_tracked = num_batches;
  if (method == CalibrationMethod::kPooled) {
    for (double& var : stats.var) {
      var /= static_cast<double>(count - config.running_var_correction);
    }
  }
  return stats;
}

}  // namespace normd
