#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/error.h"
#include "core/kernels/moments.h"
#include "core/kernels/non_finite.h"
#include "core/norm/normalization.h"
#include "core/norm/runs.h"
#include "core/norm/value_reader.h"
#include "core/norm/walk.h"
#include "core/norm/wide.h"
#include "core/tensor/half.h"

namespace normd {
namespace {

// What one walk over a batch does.
template <typename T>
struct Forward {
  const Batch& batch;
  const PieceIndex& x;     // of the whole tensor
  const Moments& moments;  // of every set
  Moments* computed;       // the same, to be computed; null: they are given
  const Affine& affine;    // when y is not null
  T* y;                    // null: not wanted
  ParallelRunner& runner;
};

// Moments of all channels, spread over threads by channels, or by samples and then merged.
template <typename T>
void ComputeChannelMoments(const PieceIndex& x, const BatchExtents& extents, Moments& moments,
                           ParallelRunner& runner) {
  const size_t channels = extents.channels;
  const size_t sample_values = channels * extents.spatial;
  const size_t pieces = PieceCount(extents.samples * sample_values, runner);
  if (!CutsBySamples(extents, pieces)) {
    ForPieces(channels, ChannelPieces(extents, pieces), runner,
              [&](size_t /*piece*/, size_t first, size_t end) {
                ValueReader<T> reader(x);
                ComputeMoments(reader.values(), extents, {first, end - first}, moments.mean.data(),
                               moments.m2.data());
              });
    return;
  }
  std::vector<Moments> parts(pieces);
  ForPieces(extents.samples, pieces, runner, [&](size_t piece, size_t first, size_t end) {
    parts[piece] = {.count = static_cast<int64_t>((end - first) * extents.spatial),
                    .mean = std::vector<double>(channels),
                    .m2 = std::vector<double>(channels)};
    ValueReader<T> reader(x, first * sample_values);
    ComputeMoments(reader.values(), {end - first, channels, extents.spatial}, {0, channels},
                   parts[piece].mean.data(), parts[piece].m2.data());
  });
  Moments merged;
  for (const Moments& part : parts) Merge(part, merged);
  moments = std::move(merged);
}

// The coefficients of the channels of `range`, which are sets of `count` values. Whether C holds
// all of them.
template <typename C>
bool SetCoefficientsOfSets(const Moments& moments, double count, double eps, const Affine& affine,
                           ChannelRange range, Coefficients<C>& to) {
  const size_t end = range.first + range.count;
  bool held = true;
  // With eps 0 a variance of 0 gives the bias, which FactorsOfSet alone knows.
  if (eps > 0) {
    constexpr size_t kBlock = 64;
    for (size_t first = range.first; first < end; first += kBlock) {
      const ChannelRange block = {first, std::min(kBlock, end - first)};
      double var[kBlock];
      for (size_t i = 0; i < block.count; ++i) var[i] = moments.m2[first + i] / count;
      held &= SetCoefficients(moments.mean.data() + first, var, eps, affine, block, to);
    }
    return held;
  }
  for (size_t c = range.first; c < end; ++c) {
    const SetFactors set =
        FactorsOfSet(NormKind::kBatchNorm, moments.mean[c], moments.m2[c], count, eps);
    held &= SetCoefficient(set.mean, set.invstd * WeightOf(affine, c), BiasOf(affine, c), c, to);
  }
  return held;
}

// kBatchNorm.
template <typename T>
void WalkChannels(const Forward<T>& walk) {
  const BatchExtents extents = ChannelExtents(walk.batch);
  const double count = static_cast<double>(walk.batch.count());
  const double eps = EpsOf(walk.batch, walk.affine);
  const auto set_coefficients = [&](ChannelRange range, auto& to) {
    return SetCoefficientsOfSets(walk.moments, count, eps, walk.affine, range, to);
  };
  const size_t pieces = PieceCount(walk.batch.num_elements(), walk.runner);
  const bool fuses = walk.x.run() != nullptr && walk.computed != nullptr && walk.y != nullptr &&
                     extents.channels >= pieces && ChannelsPerPass(extents) < extents.channels;
  if (!fuses) {
    if (walk.computed != nullptr) {
      ComputeChannelMoments<T>(walk.x, extents, *walk.computed, walk.runner);
    }
    if (walk.y == nullptr) return;
    const ChannelRange all = {0, extents.channels};
    const auto set_all = [&](auto& to) { return set_coefficients(all, to); };
    NormalizeRuns(walk.x, extents, set_all, walk.y, walk.runner);
    return;
  }
  const T* const x = reinterpret_cast<const T*>(walk.x.run());
  Coefficients<ComputeType<T>> by(extents.channels);
  const size_t pass = ChannelsPerPass(extents);
  ForPieces(extents.channels, pieces, walk.runner, [&](size_t /*piece*/, size_t first, size_t end) {
    for (; first < end; first += pass) {
      const ChannelRange range = {first, std::min(pass, end - first)};
      ComputeMoments(x, extents, range, walk.computed->mean.data(), walk.computed->m2.data());
      SetAndUseChannels(
          by, range, [&](auto& to) { return set_coefficients(range, to); },
          [&](auto& set, ChannelRange part) { NormalizeBy(x, extents, part, set, walk.y); });
    }
  });
}

// kInstanceNorm and kGroupNorm, channels first: every set is one run of memory.
template <typename T>
void WalkRuns(const Forward<T>& walk) {
  const Batch& batch = walk.batch;
  const size_t set_channels = batch.channels() / batch.sets_per_sample();
  const size_t set_values = set_channels * batch.spatial();
  const double count = static_cast<double>(batch.count());
  const double eps = EpsOf(batch, walk.affine);
  const size_t block = std::max<size_t>(1, kCachedValues / set_values);
  const bool are_ranges = BlocksAreRanges(batch, walk.x.run() != nullptr);
  const size_t pieces = std::min(PieceCount(batch.num_elements(), walk.runner), batch.sets());
  ForPieces(batch.sets(), pieces, walk.runner, [&](size_t /*piece*/, size_t first, size_t end) {
    const size_t channels = std::min(block, end - first) * set_channels;
    ValueReader<T> reader(walk.x, batch.first_value());
    Coefficients<ComputeType<T>> by(
        walk.y == nullptr ? 0 : BlockCoefficients(batch, channels, are_ranges));
    for (; first < end; first += block) {
      const size_t sets = std::min(block, end - first);
      const T* const x = reader.Read(first * set_values, sets * set_values);
      if (walk.computed != nullptr) {
        ComputeMoments(x, {1, sets, set_values}, walk.computed->mean.data() + first,
                       walk.computed->m2.data() + first);
      }
      if (walk.y == nullptr) continue;
      const ChannelBlock of_sets =
          BlockOf(batch, first * set_channels, sets * set_channels, are_ranges);
      const auto set_coefficients = [&](auto& to) {
        bool held = true;
        for (size_t set = 0; set < sets; ++set) {
          const SetFactors factors = FactorsOfSet(batch.kind(), walk.moments.mean[first + set],
                                                  walk.moments.m2[first + set], count, eps);
          const size_t channel = (first + set) % batch.sets_per_sample() * set_channels;
          const size_t index = of_sets.range.first + set * set_channels;
          for (size_t c = 0; c < set_channels; ++c) {
            held &=
                SetCoefficient(factors.mean, factors.invstd * WeightOf(walk.affine, channel + c),
                               BiasOf(walk.affine, channel + c), index + c, to);
          }
        }
        return held;
      };
      SetAndUseChannels(by, of_sets.range, set_coefficients, [&](auto& set, ChannelRange part) {
        NormalizeBy(x - of_sets.before, of_sets.extents, part, set,
                    walk.y + first * set_values - of_sets.before);
      });
    }
  });
}

// Merges the moments of `set_channels` neighbouring channels of `spatial` values each into a set's.
void MergeChannels(const double* mean, const double* m2, size_t set_channels, double spatial,
                   double* set_mean, double* set_m2) {
  double merged_mean = mean[0];
  double merged_m2 = m2[0];
  for (size_t c = 1; c < set_channels; ++c) {
    const double merged = static_cast<double>(c);
    const double delta = mean[c] - merged_mean;
    merged_mean += delta / (merged + 1);
    merged_m2 += m2[c] + delta * delta * (merged / (merged + 1)) * spatial;
  }
  *set_mean = merged_mean;
  *set_m2 = merged_m2;
}

// kInstanceNorm and kGroupNorm, channels last: a sample at a time.
template <typename T>
void WalkSamples(const Forward<T>& walk) {
  const Batch& batch = walk.batch;
  const size_t channels = batch.channels();
  const size_t sets = batch.sets_per_sample();
  const size_t set_channels = channels / sets;
  const size_t sample_values = channels * batch.spatial();
  const BatchExtents extents = SampleExtents(batch, channels);
  const double count = static_cast<double>(batch.count());
  const double eps = EpsOf(batch, walk.affine);
  const size_t pieces = std::min(PieceCount(batch.num_elements(), walk.runner), batch.samples());
  ForPieces(batch.samples(), pieces, walk.runner, [&](size_t /*piece*/, size_t first, size_t end) {
    ValueReader<T> reader(walk.x, batch.first_value());
    Scratch<double, 2> of_channels(walk.computed != nullptr ? channels : 0);
    Coefficients<ComputeType<T>> by(walk.y == nullptr ? 0 : channels);
    for (size_t sample = first; sample < end; ++sample) {
      const T* const x = reader.Read(sample * sample_values, sample_values);
      if (walk.computed != nullptr) {
        ComputeMoments(x, extents, of_channels[0], of_channels[1]);
        for (size_t set = 0; set < sets; ++set) {
          MergeChannels(of_channels[0] + set * set_channels, of_channels[1] + set * set_channels,
                        set_channels, static_cast<double>(batch.spatial()),
                        &walk.computed->mean[sample * sets + set],
                        &walk.computed->m2[sample * sets + set]);
        }
      }
      if (walk.y == nullptr) continue;
      const auto set_coefficients = [&](auto& to) {
        bool held = true;
        for (size_t c = 0; c < channels; ++c) {
          const size_t set = sample * sets + c / set_channels;
          const SetFactors factors =
              FactorsOfSet(batch.kind(), walk.moments.mean[set], walk.moments.m2[set], count, eps);
          held &= SetCoefficient(factors.mean, factors.invstd * WeightOf(walk.affine, c),
                                 BiasOf(walk.affine, c), c, to);
        }
        return held;
      };
      SetAndUseChannels(by, {0, channels}, set_coefficients, [&](auto& set, ChannelRange part) {
        NormalizeBy(x, extents, part, set, walk.y + sample * sample_values);
      });
    }
  });
}

// kLayerNorm and kRmsNorm.
template <typename T>
void WalkRows(const Forward<T>& walk) {
  const Batch& batch = walk.batch;
  const size_t columns = batch.channels();
  const double eps = EpsOf(batch, walk.affine);
  const bool has_output = walk.y != nullptr;
  using Parameter = RowParameter<ComputeType<T>>;
  const Parameter weight(has_output ? walk.affine.weight : absl::Span<const double>());
  const Parameter bias(has_output ? walk.affine.bias : absl::Span<const double>());
  const size_t block = std::max<size_t>(1, kCachedValues / columns);
  const size_t pieces = std::min(PieceCount(batch.num_elements(), walk.runner), batch.samples());
  ForPieces(batch.samples(), pieces, walk.runner, [&](size_t /*piece*/, size_t first, size_t end) {
    ValueReader<T> reader(walk.x, batch.first_value());
    Coefficients<ComputeType<T>> by(has_output ? std::min(block, end - first) : 0);
    for (; first < end; first += block) {
      const size_t rows = std::min(block, end - first);
      const T* const x = reader.Read(first * columns, rows * columns);
      if (walk.computed != nullptr) {
        ComputeMoments(x, {1, rows, columns}, walk.computed->mean.data() + first,
                       walk.computed->m2.data() + first);
      }
      if (!has_output) continue;
      const auto set_coefficients = [&](auto& to) {
        bool held = weight.held() && bias.held();
        for (size_t row = 0; row < rows; ++row) {
          const SetFactors set =
              FactorsOfRow(batch.kind(), x + row * columns, walk.moments.mean[first + row],
                           walk.moments.m2[first + row], columns, eps);
          held &= SetCoefficient(set.mean, set.invstd, 0.0, row, to);
        }
        return held;
      };
      SetAndUse(by, {0, rows}, set_coefficients, [&](auto& set) {
        NormalizeRowsBy(x, rows, columns, set, weight, bias, walk.y + first * columns);
      });
    }
  });
}

template <typename T>
void Walk(const Forward<T>& walk) {
  switch (walk.batch.kind()) {
    case NormKind::kBatchNorm:
      return WalkChannels(walk);
    case NormKind::kInstanceNorm:
    case NormKind::kGroupNorm:
      return walk.batch.channels_last() ? WalkSamples(walk) : WalkRuns(walk);
    case NormKind::kLayerNorm:
    case NormKind::kRmsNorm:
      return WalkRows(walk);
  }
}

// Walks `batch`, a part of the tensor `x`. `computed` is `moments`, or null when they are given;
// `affine` and `output` are null when no output is wanted.
void WalkAny(const Batch& batch, const PieceIndex& x, const Moments& moments, Moments* computed,
             const Affine* affine, char* output, ParallelRunner* runner) {
  if (batch.num_elements() == 0) return;
  static constexpr Affine kNone;
  VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    Walk(Forward<T>{batch, x, moments, computed, affine == nullptr ? kNone : *affine,
                    reinterpret_cast<T*>(output), *runner});
  });
}

template <typename T>
std::string ValueText(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    return absl::StrCat(value);
  } else {
    return absl::StrCat(ToFloat(value));
  }
}

// Names the first of the `values` values of x that is not finite.
template <typename T>
absl::Status NonFiniteError(const PieceIndex& x, size_t values) {
  ValueReader<T> reader(x);
  for (size_t first = 0; first < values;) {
    const size_t count = std::min(values - first, std::max<size_t>(1, reader.InPlace(first)));
    const T* const run = reader.Read(first, count);
    const size_t found = FindNonFinite(run, count);
    if (found < count) {
      const std::string index = absl::StrCat(first + found);
      return MakeError(Reason::kNonFiniteValue,
                       absl::StrCat("input is ", ValueText(ValueAt(run + found)), " at index ",
                                    index, " (row-major), expected finite values"),
                       {{"field", "input"}, {"index", index}});
    }
    first += count;
  }
  return MakeError(Reason::kNonFiniteValue,
                   "input has values so large that their variance is not finite in float64, "
                   "expected a finite one",
                   {{"field", "input"}});
}

// OK when every moment of some part of `batch`, the tensor `x`, is finite; else names the first
// value that is not.
absl::Status CheckFinite(const Batch& batch, const PieceIndex& x, const Moments& moments) {
  const size_t sets = moments.mean.size();
  if (FindNonFinite(moments.mean.data(), sets) == sets &&
      FindNonFinite(moments.m2.data(), sets) == sets) {
    return absl::OkStatus();
  }
  return VisitDataType(batch.dtype(), [&](auto element) {
    return NonFiniteError<typename decltype(element)::type>(x, batch.num_elements());
  });
}

Moments NoMoments(const Batch& batch) {
  return {.count = batch.count(),
          .mean = std::vector<double>(batch.sets(), 0.0),
          .m2 = std::vector<double>(batch.sets(), 0.0)};
}

absl::StatusOr<Moments> ComputeAndCheck(const Batch& batch, NonFinitePolicy non_finite,
                                        const Affine* affine, char* output,
                                        ParallelRunner* runner) {
  const PieceIndex x(batch.bytes());
  Moments moments = NoMoments(batch);
  WalkAny(batch, x, moments, &moments, affine, output, runner);
  if (non_finite == NonFinitePolicy::kRefuse) {
    if (absl::Status status = CheckFinite(batch, x, moments); !status.ok()) return status;
  }
  return moments;
}

}  // namespace

absl::StatusOr<Moments> ComputeBatchMoments(const Batch& batch, NonFinitePolicy non_finite,
                                            ParallelRunner* runner) {
  return ComputeAndCheck(batch, non_finite, nullptr, nullptr, runner);
}

void NormalizeByItself(const Batch& batch, const Moments& moments, const Affine& affine,
                       char* output, ParallelRunner* runner) {
  const PieceIndex x(batch.bytes());
  WalkAny(batch, x, moments, nullptr, &affine, output, runner);
}

absl::StatusOr<Moments> NormalizeAndComputeMoments(const Batch& batch, NonFinitePolicy non_finite,
                                                   const Affine& affine, char* output,
                                                   ParallelRunner* runner) {
  return ComputeAndCheck(batch, non_finite, &affine, output, runner);
}

absl::Status NormalizeBySamples(const Batch& batch, NonFinitePolicy non_finite,
                                const Affine& affine, char* output, ParallelRunner* runner) {
  if (batch.num_elements() == 0) return absl::OkStatus();
  const PieceIndex x(batch.bytes());
  const size_t sample_values = batch.channels() * batch.spatial();
  const auto sample_bytes = static_cast<int64_t>(sample_values) * ElementBytes(batch.dtype());
  const size_t step = std::max<size_t>(1, kPartSets / batch.sets_per_sample());
  for (size_t first = 0; first < batch.samples(); first += step) {
    const Batch part = batch.Samples(first, std::min(step, batch.samples() - first));
    Moments moments = NoMoments(part);
    WalkAny(part, x, moments, &moments, output == nullptr ? nullptr : &affine,
            output == nullptr ? nullptr : output + static_cast<int64_t>(first) * sample_bytes,
            runner);
    if (non_finite == NonFinitePolicy::kPropagate) continue;
    if (absl::Status status = CheckFinite(batch, x, moments); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace normd
