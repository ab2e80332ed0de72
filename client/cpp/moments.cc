#include "client/cpp/moments.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cpp/wire_status.h"
#include "core/kernels/moments.h"

namespace normd::client {
namespace {

absl::Status Refuse(v1::ErrorReason reason, absl::string_view what, const Batch& batch) {
  return MakeLocalError(absl::StatusCode::kInvalidArgument, reason,
                        absl::StrCat(what, " (shape [", absl::StrJoin(batch.shape(), ","), "])"));
}

}  // namespace

absl::StatusOr<Moments> ComputeMoments(const Batch& batch) {
  const absl::Span<const int64_t> shape = batch.shape();
  if (shape.size() < 2 || shape.size() > 5) {
    return Refuse(v1::RANK_UNSUPPORTED,
                  absl::StrCat("expected a batch of rank 2 to 5, got ", shape.size()), batch);
  }
  int64_t elements = 1;
  for (const int64_t axis : shape) {
    if (axis < 0) {
      return Refuse(v1::DIMENSION_NEGATIVE, "expected axes of at least 0", batch);
    }
    if (axis > 0 && elements > std::numeric_limits<int64_t>::max() / 4 / axis) {
      return Refuse(v1::SHAPE_OVERFLOW, "expected fewer than 2^63 bytes", batch);
    }
    elements *= axis;
  }
  if (static_cast<uint64_t>(elements) != batch.values().size()) {
    return Refuse(v1::DATA_LENGTH_MISMATCH,
                  absl::StrCat("expected ", elements, " values, got ", batch.values().size()),
                  batch);
  }

  const bool channels_last = batch.layout() == Layout::kChannelsLast;
  const size_t channels = static_cast<size_t>(channels_last ? shape.back() : shape[1]);
  Moments moments;
  moments.mean.resize(channels);
  moments.m2.resize(channels);
  if (elements == 0) return moments;
  moments.count = elements / static_cast<int64_t>(channels);
  BatchExtents extents;
  extents.channels = channels;
  extents.samples = static_cast<size_t>(channels_last ? moments.count : shape[0]);
  extents.spatial = static_cast<size_t>(moments.count) / extents.samples;
  normd::ComputeMoments(batch.values().data(), extents, moments.mean.data(), moments.m2.data());
  return moments;
}

}  // namespace normd::client
