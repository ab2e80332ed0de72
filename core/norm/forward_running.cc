#include <array>
#include <type_traits>
#include <utility>

#include "core/kernels/normalize.h"
#include "core/norm/normalization.h"
#include "core/norm/runs.h"
#include "core/norm/value_reader.h"
#include "core/norm/walk.h"
#include "core/norm/wide.h"

namespace normd {

void NormalizeByRunning(const Batch& batch, const Running& running, const Affine& affine,
                        char* output, ParallelRunner* runner) {
  if (batch.num_elements() == 0) return;
  const BatchExtents extents = ChannelExtents(batch);
  const double eps = EpsOf(batch, affine);
  const ChannelRange all = {0, extents.channels};
  const PieceIndex x(batch.bytes());
  VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    const auto set_coefficients = [&](auto& to) {
      return SetCoefficients(running.mean.data(), running.var.data(), eps, affine, all, to);
    };
    NormalizeRuns(x, extents, set_coefficients, reinterpret_cast<T*>(output), *runner);
  });
}

std::optional<RunningCoefficients> RunningCoefficients::Create(const Running& running,
                                                               const Affine& affine) {
  const size_t channels = running.mean.size();
  RunningCoefficients made;
  made.numbers_.resize(3 * channels);
  float* const numbers = made.numbers_.data();
  const bool held =
      SetFloatCoefficients(running.mean.data(), running.var.data(), affine.eps, affine,
                           {0, channels}, numbers, numbers + channels, numbers + 2 * channels);
  return held ? std::optional(std::move(made)) : std::nullopt;
}

void NormalizeByRunning(const Batch& batch, const RunningCoefficients& coefficients, char* output,
                        ParallelRunner* runner) {
  if (batch.num_elements() == 0) return;
  const BatchExtents extents = ChannelExtents(batch);
  const PieceIndex x(batch.bytes());
  VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    if constexpr (!std::is_same_v<T, double>) {
      ForRuns<T>(std::array{&x}, extents, *runner, [&](const Run& run, const auto& inputs) {
        Normalize(inputs[0], run.extents, {0, run.extents.channels},
                  coefficients.center() + run.channel, coefficients.scale() + run.channel,
                  coefficients.offset() + run.channel, reinterpret_cast<T*>(output) + run.first);
      });
    }
  });
}

}  // namespace normd
