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
// over samples of mean and variance as torch.nn.functional.instance_norm does. An empty batch
// without sets gives C empty ones. REQUIRES: `moments` pass CheckBatchMoments.
Moments PerChannel(Moments moments, const NormConfig& config);

// Each of these is OK when all sets have count >= 0, m2 >= 0, and under NonFinitePolicy::kRefuse
// mean and variance within what finite float64 arithmetic keeps finite (|mean| <= 1e150,
// m2 / count <= 1e300), so that running statistics stay finite, and when there are as many sets as
// there should be. Errors: MOMENTS_COUNT_NEGATIVE, MOMENTS_LENGTH_MISMATCH, MOMENTS_M2_NEGATIVE,
// NON_FINITE_VALUE (metadata index: the set).

// Of a whole batch, as a client sends them to be folded into a state of `config`: C sets, for
// kInstanceNorm a multiple of C, and none only when the count is 0. Errors too:
// MOMENTS_NOT_POSSIBLE (kind other than kBatchNorm and kInstanceNorm).
absl::Status CheckBatchMoments(const Moments& moments, const NormConfig& config);

// As PerChannel gives them: C sets. Errors as CheckBatchMoments.
absl::Status CheckMoments(const Moments& moments, const NormConfig& config);

// Those that a forward call returned of an input of `sets` sets of `count` values each. Errors too:
// MOMENTS_LENGTH_MISMATCH of another count.
absl::Status CheckSavedMoments(const Moments& saved, int64_t sets, int64_t count,
                               NonFinitePolicy non_finite);

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
