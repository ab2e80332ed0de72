#ifndef NORMD_CORE_NORM_MOMENTS_H_
#define NORMD_CORE_NORM_MOMENTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/norm/norm_config.h"

namespace normd {

// Per-channel statistics of a batch: what a running statistic needs to know of it.
struct Moments {
  int64_t count = 0;         // values per channel, the same for all
  std::vector<double> mean;  // [C]
  std::vector<double> m2;    // [C]; sum((x - mean)^2)
};

// OK when `moments` can be folded into a state of `config`: lengths C, count >= 0, m2 >= 0, and
// under NonFinitePolicy::kRefuse mean and variance within what finite float32 values can have, so
// that running statistics stay finite. Errors: MOMENTS_LENGTH_MISMATCH, MOMENTS_COUNT_NEGATIVE,
// MOMENTS_M2_NEGATIVE, NON_FINITE_VALUE (metadata index: the channel).
absl::Status CheckMoments(const Moments& moments, const NormConfig& config);

// OK when a batch of `count` values per channel has a variance (count 0, which changes nothing, has
// none to give). Errors: ONE_VALUE_PER_CHANNEL.
absl::Status CheckValuesPerChannel(int64_t count);

// Makes `into` the moments of both batches together. Chan, Golub, LeVeque: Updating formulae and a
// pairwise algorithm for computing sample variances (1979).
// REQUIRES: both have the same number of channels.
void Merge(const Moments& from, Moments& into);

}  // namespace normd

#endif  // NORMD_CORE_NORM_MOMENTS_H_
