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

// How the values of a batch lie, and how many sets they form.
struct Extents {
  size_t samples = 0;
  size_t channels = 0;
  size_t spatial = 0;
  bool channels_last = false;
};

absl::StatusOr<Extents> CheckedExtents(const Batch& batch, size_t rank_min) {
  const absl::Span<const int64_t> shape = batch.shape();
  if (shape.size() < rank_min || shape.size() > 5) {
    return Refuse(v1::RANK_UNSUPPORTED,
                  absl::StrCat("expected a batch of rank ", rank_min, " to 5, got ", shape.size()),
                  batch);
  }
  const int64_t element_bytes = ElementBytes(batch.dtype());
  int64_t elements = 1;
  for (const int64_t axis : shape) {
    if (axis < 0) {
      return Refuse(v1::DIMENSION_NEGATIVE, "expected axes of at least 0", batch);
    }
    if (axis > 0 && elements > std::numeric_limits<int64_t>::max() / element_bytes / axis) {
      return Refuse(v1::SHAPE_OVERFLOW, "expected fewer than 2^63 bytes", batch);
    }
    elements *= axis;
  }
  if (static_cast<uint64_t>(elements * element_bytes) != batch.bytes().size()) {
    return Refuse(v1::DATA_LENGTH_MISMATCH,
                  absl::StrCat("expected ", elements, " values of ", element_bytes, " bytes, got ",
                               batch.bytes().size(), " bytes"),
                  batch);
  }
  Extents extents;
  extents.channels_last = batch.layout() == Layout::kChannelsLast;
  extents.samples = static_cast<size_t>(shape[0]);
  extents.channels = static_cast<size_t>(extents.channels_last ? shape.back() : shape[1]);
  if (elements > 0) {
    extents.spatial = static_cast<size_t>(elements) / extents.samples / extents.channels;
  }
  return extents;
}

template <typename T>
void ComputeOfChannels(const Batch& batch, const Extents& extents, Moments& moments) {
  const BatchExtents channels =
      extents.channels_last ? BatchExtents{extents.samples * extents.spatial, extents.channels, 1}
                            : BatchExtents{extents.samples, extents.channels, extents.spatial};
  normd::ComputeMoments(reinterpret_cast<const T*>(batch.bytes().data()), channels,
                        moments.mean.data(), moments.m2.data());
}

template <typename T>
void ComputeOfSamples(const Batch& batch, const Extents& extents, Moments& moments) {
  const BatchExtents sample = extents.channels_last
                                  ? BatchExtents{extents.spatial, extents.channels, 1}
                                  : BatchExtents{1, extents.channels, extents.spatial};
  const T* x = reinterpret_cast<const T*>(batch.bytes().data());
  for (size_t n = 0; n < extents.samples; ++n) {
    normd::ComputeMoments(x + n * extents.channels * extents.spatial, sample,
                          moments.mean.data() + n * extents.channels,
                          moments.m2.data() + n * extents.channels);
  }
}

template <typename T>
void Compute(const Batch& batch, NormKind kind, const Extents& extents, Moments& moments) {
  if (kind == NormKind::kInstanceNorm) {
    ComputeOfSamples<T>(batch, extents, moments);
  } else {
    ComputeOfChannels<T>(batch, extents, moments);
  }
}

}  // namespace

absl::StatusOr<Moments> ComputeMoments(const Batch& batch, NormKind kind) {
  if (kind != NormKind::kBatchNorm && kind != NormKind::kInstanceNorm) {
    return Refuse(v1::MOMENTS_NOT_POSSIBLE,
                  "expected batch norm or instance norm, which alone train with moments", batch);
  }
  const bool by_sample = kind == NormKind::kInstanceNorm;
  const absl::StatusOr<Extents> extents = CheckedExtents(batch, by_sample ? 3 : 2);
  if (!extents.ok()) return extents.status();
  Moments moments;
  const size_t sets = extents->channels * (by_sample ? extents->samples : 1);
  const size_t count = extents->spatial * (by_sample ? 1 : extents->samples);
  if (by_sample && count == 0) return moments;
  moments.mean.resize(sets);
  moments.m2.resize(sets);
  if (count == 0) return moments;
  moments.count = static_cast<int64_t>(count);
  switch (batch.dtype()) {
    case DataType::kFloat32:
      Compute<float>(batch, kind, *extents, moments);
      break;
    case DataType::kFloat64:
      Compute<double>(batch, kind, *extents, moments);
      break;
    case DataType::kFloat16:
      Compute<Float16>(batch, kind, *extents, moments);
      break;
    case DataType::kBfloat16:
      Compute<Bfloat16>(batch, kind, *extents, moments);
      break;
  }
  return moments;
}

}  // namespace normd::client
