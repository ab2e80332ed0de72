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

}  // namespace normd
