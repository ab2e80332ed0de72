#ifndef NORMD_CORE_NORM_MOMENTS_H_
#define NORMD_CORE_NORM_MOMENTS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/norm/norm_config.h"

namespace normd {

// Statistics of the sets of values that a batch is normalized by; what the sets are by kind stands
// with normd.v1.Moments. For kBatchNorm there is one a channel, which is what a running statistic
// needs to know of a batch.
struct Moments {
  int64_t count = 0;         // values in each set
  std::vector<double> mean;  // one a set
  std::vector<double> m2;    // one a set; sum((x - mean)^2)
};

// One set a channel from the sets of a whole batch: those of kBatchNorm as they are; those of
// kInstanceNorm (sample by sample, C each) averaged over the samples, so that a fold gives the mean
// over samples of mean and variance as torch.nn.functional.instance_norm does.
// A negative m2 is not averaged away: it stays, for CheckMoments to find. An empty batch without
// sets gives C empty ones. REQUIRES: the number of sets is C, or for kInstanceNorm a multiple of C;
// else `moments` come back.
Moments PerChannel(Moments moments, const NormConfig& config);

// OK when `moments`, one set a channel, can be folded into a state of `config`: lengths C, count
// >= 0, m2 >= 0, and under NonFinitePolicy::kRefuse mean and variance within what finite float64
// arithmetic keeps finite (|mean| <= 1e150, m2 / count <= 1e300), so that running statistics stay
// finite. Errors: MOMENTS_NOT_POSSIBLE (kind other than kBatchNorm and kInstanceNorm),
// MOMENTS_LENGTH_MISMATCH, MOMENTS_COUNT_NEGATIVE, MOMENTS_M2_NEGATIVE, NON_FINITE_VALUE (metadata
// index: the channel).
absl::Status CheckMoments(const Moments& moments, const NormConfig& config);

// OK when sets of `count` values have a variance where PyTorch asks for one (all kinds but
// kLayerNorm and kRmsNorm; count 0, which changes nothing, has none to give). For kGroupNorm it
// asks for more than one value in `samples` x count (torch/nn/functional.py, group_norm). Errors:
// ONE_VALUE_PER_CHANNEL, in PyTorch's words for the kind.
absl::Status CheckValuesPerSet(int64_t count, NormKind kind, int64_t samples = 1);

// Makes `into` the moments of both batches together. Chan, Golub, LeVeque: Updating formulae and a
// pairwise algorithm for computing sample variances (1979). A count past int64 stays at its end.
// REQUIRES: both have the same number of sets.
void Merge(const Moments& from, Moments& into);

// a + b, at most the largest int64. REQUIRES: a, b >= 0.
int64_t SaturatingSum(int64_t a, int64_t b);

}  // namespace normd

#endif  // NORMD_CORE_NORM_MOMENTS_H_
