#ifndef NORMD_CORE_NORM_CALIBRATION_H_
#define NORMD_CORE_NORM_CALIBRATION_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/norm/moments.h"
#include "core/norm/norm_config.h"
#include "core/norm/running_stats.h"

namespace normd {

// What a commit makes of the batches. Same numbers as normd.v1.Calibration.Method.
enum class CalibrationMethod {
  kMeanOfBatches = 1,  // torch.optim.swa_utils.update_bn: the mean of means and of variances
  kPooled = 2,         // mean and variance of all values together
};

// Precise statistics gathered beside the running ones, in float64. A value; thread-compatible.
struct Calibration {
  std::string id;  // names it among all of a state
  CalibrationMethod method = CalibrationMethod::kMeanOfBatches;
  int64_t num_batches = 0;
  int64_t count = 0;           // values of each channel; kInstanceNorm: of each in one sample
  std::vector<double> mean;    // [C]
  std::vector<double> spread;  // [C]; mean of variances (kMeanOfBatches) or m2 (kPooled)

  // With nothing gathered, and no id.
  static Calibration Begin(CalibrationMethod method, int64_t num_features);

  // Adds one batch. REQUIRES: `batch` passes CheckMoments and has count >= 2.
  void Add(const Moments& batch, const NormConfig& config);

  // The running statistics that a commit sets; num_batches_tracked as the kind counts.
  // REQUIRES: num_batches >= 1.
  RunningStats Finish(const NormConfig& config) const;

  bool operator==(const Calibration&) const = default;
};

}  // namespace normd

#endif  // NORMD_CORE_NORM_CALIBRATION_H_
