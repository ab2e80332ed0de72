#ifndef NORMD_CORE_NORM_RUNS_H_
#define NORMD_CORE_NORM_RUNS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "core/base/parallel.h"
#include "core/kernels/batch_extents.h"
#include "core/norm/value_reader.h"
#include "core/norm/walk.h"
#include "core/norm/wide.h"
#include "core/tensor/data_type.h"

// What a channel's coefficients make of its values: a batch is walked once, in the order in which
// it lies in memory. For the walks of forward and backward alone.
namespace normd {

// Bytes that are brought together at a time, where fewer lie in one run of memory: values in place
// cost a call of a kernel more at each end of a piece.
inline constexpr size_t kBroughtBytes = size_t{1} << 10;

// Some neighbouring values of a batch, as the kernels take them: whole samples, or whole channels
// of one sample, or a part of one channel.
struct Run {
  size_t first = 0;    // the first value
  size_t channel = 0;  // the first channel
  BatchExtents extents;

  size_t values() const { return extents.samples * extents.channels * extents.spatial; }
};

// The longest run of at most `values_max` values that begins at value `first`.
inline Run RunAt(const BatchExtents& batch, size_t first, size_t values_max) {
  const size_t sample_values = batch.channels * batch.spatial;
  const size_t in_sample = first % sample_values;
  if (in_sample == 0 && values_max >= sample_values) {
    return {first, 0, {values_max / sample_values, batch.channels, batch.spatial}};
  }
  const size_t channel = in_sample / batch.spatial;
  const size_t in_channel = in_sample % batch.spatial;
  if (in_channel == 0 && values_max >= batch.spatial) {
    const size_t channels = std::min(batch.channels - channel, values_max / batch.spatial);
    return {first, channel, {1, channels, batch.spatial}};
  }
  return {first, channel, {1, 1, std::min(batch.spatial - in_channel, values_max)}};
}

// The values to cut for threads at: between samples, or else between channels, or else anywhere.
inline size_t CutValues(const BatchExtents& extents, size_t pieces) {
  if (extents.samples >= pieces) return extents.channels * extents.spatial;
  return extents.samples * extents.channels >= pieces ? extents.spatial : 1;
}

// Calls use(run, inputs) for all values of a batch, `inputs` telling where those of the run lie in
// each of `tensors`, which have the same extents. Spread over threads.
template <typename T, size_t kInputs, typename Use>
void ForRuns(const std::array<const PieceIndex*, kInputs>& tensors, const BatchExtents& extents,
             ParallelRunner& runner, Use use) {
  constexpr size_t kBroughtValues = kBroughtBytes / sizeof(T);
  const size_t values = extents.samples * extents.channels * extents.spatial;
  const size_t pieces = PieceCount(values, runner);
  const size_t cut = CutValues(extents, pieces);
  ForPieces(values / cut, pieces, runner, [&](size_t /*piece*/, size_t from, size_t to) {
    const size_t end = to * cut;
    const auto readers_of = [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
      return std::array<ValueReader<T>, kInputs>{ValueReader<T>(*tensors[kIndex])...};
    };
    auto readers = readers_of(std::make_index_sequence<kInputs>());
    for (size_t first = from * cut; first < end;) {
      size_t in_place = end - first;
      for (ValueReader<T>& reader : readers) {
        in_place = std::min(in_place, reader.InPlace(first));
      }
      const size_t at_least = std::min(end - first, kBroughtValues);
      const Run run = RunAt(extents, first, std::max(in_place, at_least));
      std::array<const T*, kInputs> inputs;
      for (size_t i = 0; i < kInputs; ++i) inputs[i] = readers[i].Read(first, run.values());
      use(run, inputs);
      first += run.values();
    }
  });
}

// Calls set(by), which fills it for all channels and tells whether its type holds everything, and
// then use(run, inputs, by, range) for the channels `range` of every run as ForRuns has them; those
// that it does not hold are set and used with float64. The coefficients of the run's first channel
// stand at run.channel.
template <typename T, size_t kArrays, size_t kInputs, typename Set, typename Use>
void SetAndUseRuns(const std::array<const PieceIndex*, kInputs>& tensors,
                   const BatchExtents& extents, ParallelRunner& runner, Set set, Use use) {
  const ChannelRange all = {0, extents.channels};
  Scratch<ComputeType<T>, kArrays> by(extents.channels);
  const bool held = set(by);
  Scratch<double, kArrays> wide(held ? 0 : extents.channels);
  std::vector<size_t> unheld;
  if (!held) {
    set(wide);
    unheld = Unheld<ComputeType<T>>(wide, all);
  }
  ForRuns<T>(tensors, extents, runner, [&](const Run& run, const auto& inputs) {
    UseParts(by, wide, unheld, {run.channel, run.extents.channels},
             [&](auto& coefficients, ChannelRange channels) {
               use(run, inputs, coefficients,
                   ChannelRange{channels.first - run.channel, channels.count});
             });
  });
}

// Normalizes all channels of x by center, scale and offset; `set` as above.
template <typename T, typename Set>
void NormalizeRuns(const PieceIndex& x, const BatchExtents& extents, Set set, T* y,
                   ParallelRunner& runner) {
  SetAndUseRuns<T, 3>(std::array{&x}, extents, runner, set,
                      [y](const Run& run, const auto& inputs, auto& by, ChannelRange channels) {
                        NormalizeBy(inputs[0], run.extents, channels, by, y + run.first,
                                    run.channel);
                      });
}

}  // namespace normd

#endif  // NORMD_CORE_NORM_RUNS_H_
