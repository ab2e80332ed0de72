#include "core/kernels/backward.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "core/norm/normalization.h"
#include "core/norm/runs.h"
#include "core/norm/value_reader.h"
#include "core/norm/walk.h"
#include "core/norm/wide.h"

namespace normd {
namespace {

// What one walk over a batch and the gradient of its output does.
template <typename T>
struct Backward {
  const Batch& batch;
  const PieceIndex& x;
  const PieceIndex& dy;
  const Moments& moments;  // of every set
  const Affine& affine;
  Gradients* gradients;  // null: not wanted; else zeros to add to, both [C]
  T* dx;                 // null: not wanted
  ParallelRunner& runner;

  bool are_runs() const { return x.run() != nullptr && dy.run() != nullptr; }
};

// One of each a channel or row, as in GradientCoefficients: center, of_dy, of_x, offset.
template <typename C>
using Coefficients = Scratch<C, 4>;

// What flows back to one set of `count` values, from the sums over the set of weight dy and weight
// dy (x - mean): dx = dy weight of_dy + (x - mean) of_x + offset.
struct SetGradient {
  double of_dy = 0;
  double of_x = 0;
  double offset = 0;
};

SetGradient GradientOfSet(NormKind kind, const SetFactors& set, double sum, double dot,
                          double count) {
  // The mean square does not move with a shift of all values.
  const bool has_mean = kind != NormKind::kRmsNorm;
  // One value is its own mean: what it is changes nothing.
  if (has_mean && count == 1) return {};
  // In this order, since the cube of a large invstd is too large.
  return {.of_dy = set.invstd,
          .of_x = -(set.invstd * dot / count) * set.invstd * set.invstd,
          .offset = has_mean ? -set.invstd * sum / count : 0.0};
}

// The coefficients of one channel or row; the part of the mean that C cannot hold goes into the
// offset. Whether C holds the rest.
template <typename C>
bool SetCoefficient(const SetFactors& set, double weight, const SetGradient& gradient, size_t index,
                    Coefficients<C>& to) {
  const double of_dy = gradient.of_dy * weight;
  to.At(0, index) = static_cast<C>(set.mean);
  to.At(1, index) = static_cast<C>(of_dy);
  to.At(2, index) = static_cast<C>(gradient.of_x);
  to.At(3, index) = static_cast<C>(OffsetIn<C>(set.mean, gradient.of_x, gradient.offset));
  return Holds<C>(set.mean, of_dy, gradient.of_x, gradient.offset);
}

// The same of every piece of a walk, added up in the end.
std::vector<Gradients> GradientsOfPieces(const Gradients* whole, size_t pieces) {
  std::vector<Gradients> parts(whole == nullptr ? 0 : pieces);
  for (Gradients& part : parts) {
    part.weight.resize(whole->weight.size());
    part.bias.resize(whole->bias.size());
  }
  return parts;
}

void AddUp(const std::vector<Gradients>& parts, Gradients* whole) {
  for (const Gradients& part : parts) {
    for (size_t i = 0; i < part.weight.size(); ++i) whole->weight[i] += part.weight[i];
    for (size_t i = 0; i < part.bias.size(); ++i) whole->bias[i] += part.bias[i];
  }
}

// Sums of dy and of dy (x - mean) over the channels of `range`, in the batch that begins at value
// `origin`.
template <typename T>
void SumRange(const PieceIndex& x, const PieceIndex& dy, size_t origin, const BatchExtents& extents,
              ChannelRange range, const double* mean, double* sum, double* dot) {
  ValueReader<T> of_x(x, origin);
  ValueReader<T> of_dy(dy, origin);
  if (x.run() != nullptr && dy.run() != nullptr) {
    ComputeGradientSums(of_x.values(), of_dy.values(), extents, range, mean, sum, dot);
  } else {
    ComputeGradientSums(Values<T>(&of_x), Values<T>(&of_dy), extents, range, mean, sum, dot);
  }
}

// Sums of dy and of dy (x - mean) over all channels, spread over threads by channels, or by samples
// and then added.
template <typename T>
void SumChannels(const PieceIndex& x, const PieceIndex& dy, const BatchExtents& extents,
                 const double* mean, double* sum, double* dot, ParallelRunner& runner) {
  const size_t channels = extents.channels;
  const size_t sample_values = channels * extents.spatial;
  const size_t pieces = PieceCount(extents.samples * sample_values, runner);
  if (!CutsBySamples(extents, pieces)) {
    ForPieces(channels, ChannelPieces(extents, pieces), runner,
              [&](size_t /*piece*/, size_t first, size_t end) {
                SumRange<T>(x, dy, 0, extents, {first, end - first}, mean, sum, dot);
              });
    return;
  }
  std::vector<double> parts(2 * pieces * channels, 0.0);
  ForPieces(extents.samples, pieces, runner, [&](size_t piece, size_t first, size_t end) {
    double* part = parts.data() + 2 * piece * channels;
    SumRange<T>(x, dy, first * sample_values, {end - first, channels, extents.spatial},
                {0, channels}, mean, part, part + channels);
  });
  std::fill_n(sum, channels, 0.0);
  std::fill_n(dot, channels, 0.0);
  for (size_t piece = 0; piece < pieces; ++piece) {
    const double* part = parts.data() + 2 * piece * channels;
    for (size_t c = 0; c < channels; ++c) {
      sum[c] += part[c];
      dot[c] += part[channels + c];
    }
  }
}

// kBatchNorm.
template <typename T>
void WalkChannels(const Backward<T>& walk) {
  const BatchExtents extents = ChannelExtents(walk.batch);
  const size_t channels = extents.channels;
  const double count = static_cast<double>(walk.batch.count());
  const double eps = EpsOf(walk.batch, walk.affine);
  Scratch<double, 3> sums(channels);  // and invstd
  const auto finish_sums = [&](ChannelRange range) {
    for (size_t c = range.first; c < range.first + range.count; ++c) {
      const SetFactors set =
          FactorsOfSet(NormKind::kBatchNorm, walk.moments.mean[c], walk.moments.m2[c], count, eps);
      sums[2][c] = set.invstd;
      if (walk.gradients == nullptr) continue;
      walk.gradients->weight[c] = sums[1][c] * set.invstd;
      walk.gradients->bias[c] = sums[0][c];
    }
  };
  const auto set_coefficients = [&](ChannelRange range, auto& to) {
    bool held = true;
    for (size_t c = range.first; c < range.first + range.count; ++c) {
      const SetFactors set = {walk.moments.mean[c], sums[2][c]};
      const double weight = WeightOf(walk.affine, c);
      const SetGradient gradient =
          GradientOfSet(NormKind::kBatchNorm, set, weight * sums[0][c], weight * sums[1][c], count);
      held &= SetCoefficient(set, weight, gradient, c, to);
    }
    return held;
  };
  const size_t pieces = PieceCount(walk.batch.num_elements(), walk.runner);
  const size_t pass = std::max<size_t>(1, ChannelsPerPass(extents) / 2);  // x and dy
  if (!walk.are_runs() || pass >= channels || channels < pieces ||
      ChannelsPerPass(extents) == channels) {
    SumChannels<T>(walk.x, walk.dy, extents, walk.moments.mean.data(), sums[0], sums[1],
                   walk.runner);
    const ChannelRange all = {0, channels};
    finish_sums(all);
    if (walk.dx == nullptr) return;
    SetAndUseRuns<T, 4>(
        std::array{&walk.x, &walk.dy}, extents, walk.runner,
        [&](auto& to) { return set_coefficients(all, to); },
        [&](const Run& run, const auto& inputs, auto& by, ChannelRange of_run) {
          InputGradientBy(inputs[0], inputs[1], run.extents, of_run, by, walk.dx + run.first,
                          run.channel);
        });
    return;
  }
  const T* const x = reinterpret_cast<const T*>(walk.x.run());
  const T* const dy = reinterpret_cast<const T*>(walk.dy.run());
  Coefficients<ComputeType<T>> by(walk.dx == nullptr ? 0 : channels);
  ForPieces(channels, pieces, walk.runner, [&](size_t /*piece*/, size_t first, size_t end) {
    for (; first < end; first += pass) {
      const ChannelRange range = {first, std::min(pass, end - first)};
      ComputeGradientSums(x, dy, extents, range, walk.moments.mean.data(), sums[0], sums[1]);
      finish_sums(range);
      if (walk.dx == nullptr) continue;
      SetAndUseChannels(
          by, range, [&](auto& to) { return set_coefficients(range, to); },
          [&](auto& set, ChannelRange part) {
            InputGradientBy(x, dy, extents, part, set, walk.dx);
          });
    }
  });
}

// Of the two tensors.
template <typename T>
struct Readers {
  ValueReader<T> x;
  ValueReader<T> dy;

  explicit Readers(const Backward<T>& walk) : x(walk.x), dy(walk.dy) {}
};

// kInstanceNorm and kGroupNorm: some whole sets, whose channels are neighbours in memory (channels
// first), or the channels of one sample (channels last).
template <typename T>
void WalkSets(const Backward<T>& walk, size_t first, size_t sets, Readers<T>& readers,
              Gradients* gradients, Scratch<double, 4>& of_channels,
              Coefficients<ComputeType<T>>& by) {
  const Batch& batch = walk.batch;
  const size_t set_channels = batch.channels() / batch.sets_per_sample();
  const size_t channels = sets * set_channels;
  const size_t at = first * set_channels * batch.spatial();
  const T* const x = readers.x.Read(at, channels * batch.spatial());
  const T* const dy = readers.dy.Read(at, channels * batch.spatial());
  const ChannelBlock of_sets =
      BlockOf(batch, first * set_channels, channels, BlocksAreRanges(batch, walk.are_runs()));
  const double count = static_cast<double>(batch.count());
  const double eps = EpsOf(batch, walk.affine);
  double* const mean = of_channels[0];
  double* const sum = of_channels[1];
  double* const dot = of_channels[2];
  double* const invstd = of_channels[3];  // one a set
  for (size_t set = 0; set < sets; ++set) {
    std::fill_n(mean + set * set_channels, set_channels, walk.moments.mean[first + set]);
  }
  ComputeGradientSums(x, dy, SampleExtents(batch, channels), {0, channels}, mean, sum, dot);
  const auto channel_of = [&](size_t set) {
    return (first + set) % batch.sets_per_sample() * set_channels;
  };
  for (size_t set = 0; set < sets; ++set) {
    invstd[set] = FactorsOfSet(batch.kind(), walk.moments.mean[first + set],
                               walk.moments.m2[first + set], count, eps)
                      .invstd;
    if (gradients == nullptr) continue;
    const size_t begin = set * set_channels;
    const size_t channel = channel_of(set);
    for (size_t c = 0; c < set_channels; ++c) {
      gradients->weight[channel + c] += dot[begin + c] * invstd[set];
      gradients->bias[channel + c] += sum[begin + c];
    }
  }
  if (walk.dx == nullptr) return;
  const auto set_coefficients = [&](auto& to) {
    bool held = true;
    for (size_t set = 0; set < sets; ++set) {
      const size_t begin = set * set_channels;
      const size_t channel = channel_of(set);
      double set_sum = 0;
      double set_dot = 0;
      for (size_t c = 0; c < set_channels; ++c) {
        const double weight = WeightOf(walk.affine, channel + c);
        set_sum += weight * sum[begin + c];
        set_dot += weight * dot[begin + c];
      }
      const SetFactors factors = {mean[begin], invstd[set]};
      const SetGradient gradient = GradientOfSet(batch.kind(), factors, set_sum, set_dot, count);
      for (size_t c = 0; c < set_channels; ++c) {
        held &= SetCoefficient(factors, WeightOf(walk.affine, channel + c), gradient,
                               of_sets.range.first + begin + c, to);
      }
    }
    return held;
  };
  SetAndUseChannels(by, of_sets.range, set_coefficients, [&](auto& set, ChannelRange part) {
    InputGradientBy(x - of_sets.before, dy - of_sets.before, of_sets.extents, part, set,
                    walk.dx + at - of_sets.before);
  });
}

template <typename T>
void WalkBlocks(const Backward<T>& walk) {
  const Batch& batch = walk.batch;
  const size_t set_channels = batch.channels() / batch.sets_per_sample();
  // With the channel last the sets of a sample lie between each other.
  const size_t unit = batch.channels_last() ? batch.sets_per_sample() : 1;
  const size_t block =
      batch.channels_last()
          ? unit
          : std::max<size_t>(1, kCachedValues / 2 / (set_channels * batch.spatial()));
  const size_t units = batch.sets() / unit;
  const size_t pieces = std::min(PieceCount(batch.num_elements(), walk.runner), units);
  std::vector<Gradients> parts = GradientsOfPieces(walk.gradients, pieces);
  ForPieces(units, pieces, walk.runner, [&](size_t piece, size_t first, size_t end) {
    first *= unit;
    end *= unit;
    const size_t channels = std::min(block, end - first) * set_channels;
    Scratch<double, 4> of_channels(channels);
    const bool are_ranges = BlocksAreRanges(batch, walk.are_runs());
    Coefficients<ComputeType<T>> by(
        walk.dx == nullptr ? 0 : BlockCoefficients(batch, channels, are_ranges));
    Readers<T> readers(walk);
    for (; first < end; first += block) {
      WalkSets(walk, first, std::min(block, end - first), readers,
               parts.empty() ? nullptr : &parts[piece], of_channels, by);
    }
  });
  AddUp(parts, walk.gradients);
}

// kLayerNorm and kRmsNorm.
template <typename T>
void WalkRows(const Backward<T>& walk) {
  const Batch& batch = walk.batch;
  const size_t columns = batch.channels();
  const double count = static_cast<double>(columns);
  const double eps = EpsOf(batch, walk.affine);
  const RowParameter<ComputeType<T>> weight(walk.affine.weight);
  const size_t block = std::max<size_t>(1, kCachedValues / 2 / columns);
  const size_t pieces = std::min(PieceCount(batch.num_elements(), walk.runner), batch.samples());
  std::vector<Gradients> parts = GradientsOfPieces(walk.gradients, pieces);
  ForPieces(batch.samples(), pieces, walk.runner, [&](size_t piece, size_t first, size_t end) {
    Scratch<double, 4> of_rows(std::min(block, end - first));
    Coefficients<ComputeType<T>> by(walk.dx == nullptr ? 0 : std::min(block, end - first));
    Readers<T> readers(walk);
    double* const grad_weight = parts.empty() ? nullptr : parts[piece].weight.data();
    double* const grad_bias =
        parts.empty() || parts[piece].bias.empty() ? nullptr : parts[piece].bias.data();
    for (; first < end; first += block) {
      const size_t rows = std::min(block, end - first);
      const size_t at = first * columns;
      const T* const x = readers.x.Read(at, rows * columns);
      const T* const dy = readers.dy.Read(at, rows * columns);
      for (size_t row = 0; row < rows; ++row) {
        const SetFactors set =
            FactorsOfRow(batch.kind(), x + row * columns, walk.moments.mean[first + row],
                         walk.moments.m2[first + row], columns, eps);
        of_rows[0][row] = set.mean;
        of_rows[1][row] = set.invstd;
      }
      RowGradientSums(x, dy, rows, columns, of_rows[0], of_rows[1], weight, of_rows[2], of_rows[3],
                      grad_weight, grad_bias);
      if (walk.dx == nullptr) continue;
      const auto set_coefficients = [&](auto& to) {
        bool held = weight.held();
        for (size_t row = 0; row < rows; ++row) {
          const SetFactors set = {of_rows[0][row], of_rows[1][row]};
          const SetGradient gradient =
              GradientOfSet(batch.kind(), set, of_rows[2][row], of_rows[3][row], count);
          held &= SetCoefficient(set, 1.0, gradient, row, to);
        }
        return held;
      };
      SetAndUse(by, {0, rows}, set_coefficients, [&](auto& set) {
        RowInputGradientBy(x, dy, rows, columns, set, weight, walk.dx + at);
      });
    }
  });
  AddUp(parts, walk.gradients);
}

template <typename T>
void Walk(const Backward<T>& walk) {
  switch (walk.batch.kind()) {
    case NormKind::kBatchNorm:
      return WalkChannels(walk);
    case NormKind::kInstanceNorm:
    case NormKind::kGroupNorm:
      return WalkBlocks(walk);
    case NormKind::kLayerNorm:
    case NormKind::kRmsNorm:
      return WalkRows(walk);
  }
}

// Zeros for the parameters that `affine` has.
Gradients ZeroGradients(const Affine& affine) {
  return {.weight = std::vector<double>(affine.weight.size(), 0.0),
          .bias = std::vector<double>(affine.bias.size(), 0.0)};
}

}  // namespace

Gradients BackwardByItself(const Batch& batch, const TensorBytes& grad_output,
                           const Moments& moments, const Affine& affine, bool wants_parameters,
                           char* grad_input, ParallelRunner* runner) {
  Gradients gradients;
  const bool has_parameters = wants_parameters && !affine.weight.empty();
  if (has_parameters) gradients = ZeroGradients(affine);
  if (batch.num_elements() == 0) return gradients;
  const PieceIndex x(batch.bytes());
  const PieceIndex dy(grad_output);
  VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    Walk(Backward<T>{batch, x, dy, moments, affine, has_parameters ? &gradients : nullptr,
                     reinterpret_cast<T*>(grad_input), *runner});
  });
  return gradients;
}

Gradients BackwardByRunning(const Batch& batch, const TensorBytes& grad_output,
                            const Running& running, const Affine& affine, bool wants_parameters,
                            char* grad_input, ParallelRunner* runner) {
  Gradients gradients;
  const bool has_parameters = wants_parameters && !affine.weight.empty();
  if (has_parameters) gradients = ZeroGradients(affine);
  if (batch.num_elements() == 0) return gradients;
  const BatchExtents extents = ChannelExtents(batch);
  const size_t channels = extents.channels;
  const double eps = EpsOf(batch, affine);
  const PieceIndex x(batch.bytes());
  const PieceIndex dy(grad_output);
  VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    if (has_parameters) {
      SumChannels<T>(x, dy, extents, running.mean.data(), gradients.bias.data(),
                     gradients.weight.data(), *runner);
    }
    const auto invstd_of = [&](size_t c) { return 1.0 / std::sqrt(running.var[c] + eps); };
    for (size_t c = 0; c < channels && has_parameters; ++c) gradients.weight[c] *= invstd_of(c);
    if (grad_input == nullptr) return;
    // Scales alone: center and offset stay 0.
    const auto set_coefficients = [&]<typename C>(Scratch<C, 3>& to) {
      bool held = true;
      for (size_t c = 0; c < channels; ++c) {
        const double scale = invstd_of(c) * WeightOf(affine, c);
        to.At(1, c) = static_cast<C>(scale);
        held &= HoldsFactor<C>(scale);
      }
      return held;
    };
    NormalizeRuns(dy, extents, set_coefficients, reinterpret_cast<T*>(grad_input), *runner);
  });
  return gradients;
}

}  // namespace normd
