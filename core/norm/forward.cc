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
#include "core/kernels/normalize.h"
#include "core/norm/normalization.h"
#include "core/norm/walk.h"
#include "core/tensor/half.h"

namespace normd {
namespace {

// What one walk over a batch does.
template <typename T>
struct Forward {
  const Batch& batch;
  const T* x;
  const Moments& moments;  // of every set
  Moments* computed;       // the same, to be computed; null: they are given
  const Affine& affine;    // when y is not null
  T* y;                    // null: not wanted
  ParallelRunner& runner;
};

template <typename T>
using Coefficients = Scratch<ComputeType<T>, 3>;

// (x - mean) * scale + bias for one channel, as the kernels take it: the part of the mean that T's
// compute type cannot hold goes into the offset.
template <typename T>
void SetCoefficient(double mean, double scale, double bias, size_t index, Coefficients<T>& to) {
  const auto center = static_cast<ComputeType<T>>(mean);
  to[0][index] = center;
  to[1][index] = static_cast<ComputeType<T>>(scale);
  to[2][index] = static_cast<ComputeType<T>>(bias - (mean - static_cast<double>(center)) * scale);
}

// Moments of all channels, spread over threads by channels, or by samples and then merged.
template <typename T>
void ComputeChannelMoments(const T* x, const BatchExtents& extents, Moments& moments,
                           ParallelRunner& runner) {
  const size_t channels = extents.channels;
  const size_t sample_values = channels * extents.spatial;
  const size_t pieces = PieceCount(extents.samples * sample_values, runner);
  if (!CutsBySamples(extents, pieces)) {
    ForPieces(
        channels, ChannelPieces(extents, pieces), runner,
        [&](size_t /*piece*/, size_t first, size_t end) {
          ComputeMoments(x, extents, {first, end - first}, moments.mean.data(), moments.m2.data());
        });
    return;
  }
  std::vector<Moments> parts(pieces);
  ForPieces(extents.samples, pieces, runner, [&](size_t piece, size_t first, size_t end) {
    parts[piece] = {.count = static_cast<int64_t>((end - first) * extents.spatial),
                    .mean = std::vector<double>(channels),
                    .m2 = std::vector<double>(channels)};
    ComputeMoments(x + first * sample_values, {end - first, channels, extents.spatial},
                   parts[piece].mean.data(), parts[piece].m2.data());
  });
  Moments merged;
  for (const Moments& part : parts) Merge(part, merged);
  moments = std::move(merged);
}

// Normalizes all channels, spread over threads by samples or else by channels.
template <typename T>
void NormalizeChannels(const T* x, const BatchExtents& extents, Coefficients<T>& by, T* y,
                       ParallelRunner& runner) {
  const size_t sample_values = extents.channels * extents.spatial;
  const size_t pieces = PieceCount(extents.samples * sample_values, runner);
  if (extents.samples >= pieces) {
    ForPieces(extents.samples, pieces, runner, [&](size_t /*piece*/, size_t first, size_t end) {
      Normalize(x + first * sample_values, {end - first, extents.channels, extents.spatial}, by[0],
                by[1], by[2], y + first * sample_values);
    });
  } else {
    ForPieces(extents.channels, std::min(pieces, extents.channels), runner,
              [&](size_t /*piece*/, size_t first, size_t end) {
                Normalize(x, extents, {first, end - first}, by[0], by[1], by[2], y);
              });
  }
}

// kBatchNorm.
template <typename T>
void WalkChannels(const Forward<T>& walk) {
  const BatchExtents extents = ChannelExtents(walk.batch);
  const double count = static_cast<double>(walk.batch.count());
  const double eps = EpsOf(walk.batch, walk.affine);
  Coefficients<T> by(walk.y == nullptr ? 0 : extents.channels);
  const auto set_coefficients = [&](size_t first, size_t end) {
    for (size_t c = first; c < end; ++c) {
      const SetFactors set =
          FactorsOfSet(NormKind::kBatchNorm, walk.moments.mean[c], walk.moments.m2[c], count, eps);
      SetCoefficient<T>(set.mean, set.invstd * WeightOf(walk.affine, c), BiasOf(walk.affine, c), c,
                        by);
    }
  };
  const size_t pieces = PieceCount(walk.batch.num_elements(), walk.runner);
  const bool fuses = walk.computed != nullptr && walk.y != nullptr && extents.channels >= pieces &&
                     ChannelsPerPass(extents) < extents.channels;
  if (!fuses) {
    if (walk.computed != nullptr)
      ComputeChannelMoments(walk.x, extents, *walk.computed, walk.runner);
    if (walk.y == nullptr) return;
    set_coefficients(0, extents.channels);
    NormalizeChannels(walk.x, extents, by, walk.y, walk.runner);
    return;
  }
  const size_t pass = ChannelsPerPass(extents);
  ForPieces(extents.channels, pieces, walk.runner, [&](size_t /*piece*/, size_t first, size_t end) {
    for (; first < end; first += pass) {
      const ChannelRange range = {first, std::min(pass, end - first)};
      ComputeMoments(walk.x, extents, range, walk.computed->mean.data(), walk.computed->m2.data());
      set_coefficients(first, first + range.count);
      Normalize(walk.x, extents, range, by[0], by[1], by[2], walk.y);
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
  const size_t pieces = std::min(PieceCount(batch.num_elements(), walk.runner), batch.sets());
  ForPieces(batch.sets(), pieces, walk.runner, [&](size_t /*piece*/, size_t first, size_t end) {
    const size_t channels = std::min(block, end - first) * set_channels;
    Coefficients<T> by(walk.y == nullptr ? 0 : BlockCoefficients(batch, channels));
    for (; first < end; first += block) {
      const size_t sets = std::min(block, end - first);
      const T* x = walk.x + first * set_values;
      if (walk.computed != nullptr) {
        ComputeMoments(x, {1, sets, set_values}, walk.computed->mean.data() + first,
                       walk.computed->m2.data() + first);
      }
      if (walk.y == nullptr) continue;
      const ChannelBlock of_sets = BlockOf(batch, first * set_channels, sets * set_channels);
      for (size_t set = 0; set < sets; ++set) {
        const SetFactors factors = FactorsOfSet(batch.kind(), walk.moments.mean[first + set],
                                                walk.moments.m2[first + set], count, eps);
        const size_t channel = (first + set) % batch.sets_per_sample() * set_channels;
        const size_t index = of_sets.range.first + set * set_channels;
        for (size_t c = 0; c < set_channels; ++c) {
          SetCoefficient<T>(factors.mean, factors.invstd * WeightOf(walk.affine, channel + c),
                            BiasOf(walk.affine, channel + c), index + c, by);
        }
      }
      Normalize(walk.x + of_sets.origin, of_sets.extents, of_sets.range, by[0], by[1], by[2],
                walk.y + of_sets.origin);
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
    Scratch<double, 2> of_channels(walk.computed != nullptr ? channels : 0);
    Coefficients<T> by(walk.y == nullptr ? 0 : channels);
    for (size_t sample = first; sample < end; ++sample) {
      const T* x = walk.x + sample * sample_values;
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
      for (size_t c = 0; c < channels; ++c) {
        const size_t set = sample * sets + c / set_channels;
        const SetFactors factors =
            FactorsOfSet(batch.kind(), walk.moments.mean[set], walk.moments.m2[set], count, eps);
        SetCoefficient<T>(factors.mean, factors.invstd * WeightOf(walk.affine, c),
                          BiasOf(walk.affine, c), c, by);
      }
      Normalize(x, extents, by[0], by[1], by[2], walk.y + sample * sample_values);
    }
  });
}

template <typename T>
std::vector<ComputeType<T>> ToComputeType(absl::Span<const double> values) {
  return std::vector<ComputeType<T>>(values.begin(), values.end());
}

// kLayerNorm and kRmsNorm.
template <typename T>
void WalkRows(const Forward<T>& walk) {
  const Batch& batch = walk.batch;
  const size_t columns = batch.channels();
  const double count = static_cast<double>(columns);
  const double eps = EpsOf(batch, walk.affine);
  std::vector<ComputeType<T>> weight;
  std::vector<ComputeType<T>> bias;
  if (walk.y != nullptr) {
    weight = ToComputeType<T>(walk.affine.weight);
    bias = ToComputeType<T>(walk.affine.bias);
  }
  const size_t block = std::max<size_t>(1, kCachedValues / columns);
  const size_t pieces = std::min(PieceCount(batch.num_elements(), walk.runner), batch.samples());
  ForPieces(batch.samples(), pieces, walk.runner, [&](size_t /*piece*/, size_t first, size_t end) {
    Coefficients<T> by(walk.y == nullptr ? 0 : std::min(block, end - first));
    const RowCoefficients<T> coefficients = {.center = by[0],
                                             .scale = by[1],
                                             .offset = by[2],
                                             .weight = weight.empty() ? nullptr : weight.data(),
                                             .bias = bias.empty() ? nullptr : bias.data()};
    for (; first < end; first += block) {
      const size_t rows = std::min(block, end - first);
      const T* x = walk.x + first * columns;
      if (walk.computed != nullptr) {
        ComputeMoments(x, {1, rows, columns}, walk.computed->mean.data() + first,
                       walk.computed->m2.data() + first);
      }
      if (walk.y == nullptr) continue;
      for (size_t row = 0; row < rows; ++row) {
        const SetFactors set = FactorsOfSet(batch.kind(), walk.moments.mean[first + row],
                                            walk.moments.m2[first + row], count, eps);
        SetCoefficient<T>(set.mean, set.invstd, 0.0, row, by);
      }
      NormalizeRows(x, rows, columns, coefficients, walk.y + first * columns);
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

// Walks `batch`. `computed` is `moments`, or null when they are given; `affine` and `output` are
// null when no output is wanted.
void WalkAny(const Batch& batch, const Moments& moments, Moments* computed, const Affine* affine,
             char* output, ParallelRunner* runner) {
  if (batch.num_elements() == 0) return;
  static constexpr Affine kNone;
  VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    Walk(Forward<T>{batch, reinterpret_cast<const T*>(batch.data()), moments, computed,
                    affine == nullptr ? kNone : *affine, reinterpret_cast<T*>(output), *runner});
  });
}

std::string ValueText(const Batch& batch, size_t index) {
  return VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    const T value = reinterpret_cast<const T*>(batch.data())[index];
    if constexpr (std::is_floating_point_v<T>) {
      return absl::StrCat(value);
    } else {
      return absl::StrCat(ToFloat(value));
    }
  });
}

// OK when every moment is finite; else names the first value of `batch` that is not.
absl::Status CheckFinite(const Batch& batch, const Moments& moments) {
  const auto is_finite = [](double value) { return std::isfinite(value); };
  if (std::all_of(moments.mean.begin(), moments.mean.end(), is_finite) &&
      std::all_of(moments.m2.begin(), moments.m2.end(), is_finite)) {
    return absl::OkStatus();
  }
  const size_t index = VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    return FindNonFinite(reinterpret_cast<const T*>(batch.data()), batch.num_elements());
  });
  if (index == batch.num_elements()) {
    return MakeError(Reason::kNonFiniteValue,
                     "input has values so large that their variance is not finite in float64, "
                     "expected a finite one",
                     {{"field", "input"}});
  }
  return MakeError(Reason::kNonFiniteValue,
                   absl::StrCat("input is ", ValueText(batch, index), " at index ", index,
                                " (row-major), expected finite values"),
                   {{"field", "input"}, {"index", absl::StrCat(index)}});
}

Moments NoMoments(const Batch& batch) {
  return {.count = batch.count(),
          .mean = std::vector<double>(batch.sets(), 0.0),
          .m2 = std::vector<double>(batch.sets(), 0.0)};
}

absl::StatusOr<Moments> ComputeAndCheck(const Batch& batch, NonFinitePolicy non_finite,
                                        const Affine* affine, char* output,
                                        ParallelRunner* runner) {
  Moments moments = NoMoments(batch);
  WalkAny(batch, moments, &moments, affine, output, runner);
  if (non_finite == NonFinitePolicy::kRefuse) {
    if (absl::Status status = CheckFinite(batch, moments); !status.ok()) return status;
  }
  return moments;
}

}  // namespace

absl::StatusOr<Moments> ComputeBatchMoments(const Batch& batch, NonFinitePolicy non_finite,
                                            ParallelRunner* runner) {
  return ComputeAndCheck(batch, non_finite, nullptr, nullptr, runner);
}

void NormalizeByRunning(const Batch& batch, const Running& running, const Affine& affine,
                        char* output, ParallelRunner* runner) {
  if (batch.num_elements() == 0) return;
  const BatchExtents extents = ChannelExtents(batch);
  const double eps = EpsOf(batch, affine);
  VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    Coefficients<T> by(extents.channels);
    for (size_t c = 0; c < extents.channels; ++c) {
      SetCoefficient<T>(running.mean[c],
                        1.0 / std::sqrt(running.var[c] + eps) * WeightOf(affine, c),
                        BiasOf(affine, c), c, by);
    }
    NormalizeChannels(reinterpret_cast<const T*>(batch.data()), extents, by,
                      reinterpret_cast<T*>(output), *runner);
  });
}

void NormalizeByItself(const Batch& batch, const Moments& moments, const Affine& affine,
                       char* output, ParallelRunner* runner) {
  WalkAny(batch, moments, nullptr, &affine, output, runner);
}

absl::StatusOr<Moments> NormalizeAndComputeMoments(const Batch& batch, NonFinitePolicy non_finite,
                                                   const Affine& affine, char* output,
                                                   ParallelRunner* runner) {
  return ComputeAndCheck(batch, non_finite, &affine, output, runner);
}

absl::Status NormalizeBySamples(const Batch& batch, NonFinitePolicy non_finite,
                                const Affine& affine, char* output, ParallelRunner* runner) {
  if (batch.num_elements() == 0) return absl::OkStatus();
  const size_t sample_values = batch.channels() * batch.spatial();
  const auto sample_bytes = static_cast<int64_t>(sample_values) * ElementBytes(batch.dtype());
  const size_t step = std::max<size_t>(1, kPartSets / batch.sets_per_sample());
  for (size_t first = 0; first < batch.samples(); first += step) {
    const Batch part = batch.Samples(first, std::min(step, batch.samples() - first));
    Moments moments = NoMoments(part);
    WalkAny(part, moments, &moments, output == nullptr ? nullptr : &affine,
            output == nullptr ? nullptr : output + static_cast<int64_t>(first) * sample_bytes,
            runner);
    if (non_finite == NonFinitePolicy::kPropagate) continue;
    if (absl::Status status = CheckFinite(batch, moments); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace normd
