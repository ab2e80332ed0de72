#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/kernels/normalize.h"
#include "core/norm/normalization.h"
#include "core/norm/walk.h"
#include "core/norm/wide.h"

namespace normd {
namespace {

// Bytes that are brought together at a time: they stay in the first cache until they are read.
constexpr size_t kBlockBytes = size_t{16} << 10;

// Some neighbouring values of a batch, as the kernels take them: whole samples, or whole channels
// of one sample, or a part of one channel.
struct Run {
  size_t channel = 0;  // the first
  BatchExtents extents;

  size_t values() const { return extents.samples * extents.channels * extents.spatial; }
};

// The longest run of at most `values_max` values that begins at value `first`.
Run RunAt(const BatchExtents& batch, size_t first, size_t values_max) {
  const size_t sample_values = batch.channels * batch.spatial;
  const size_t in_sample = first % sample_values;
  if (in_sample == 0 && values_max >= sample_values) {
    return {0, {values_max / sample_values, batch.channels, batch.spatial}};
  }
  const size_t channel = in_sample / batch.spatial;
  const size_t in_channel = in_sample % batch.spatial;
  if (in_channel == 0 && values_max >= batch.spatial) {
    const size_t channels = std::min(batch.channels - channel, values_max / batch.spatial);
    return {channel, {1, channels, batch.spatial}};
  }
  return {channel, {1, 1, std::min(batch.spatial - in_channel, values_max)}};
}

// Reads the bytes of pieces one after the other, from byte `first` on.
class ValueReader {
 public:
  ValueReader(absl::Span<const absl::string_view> pieces, size_t first) : pieces_(pieces) {
    Advance(first);
  }

  // How many of the next bytes lie in one run that is aligned to `alignment`.
  size_t InPlace(size_t alignment) const {
    const absl::string_view rest = pieces_.front().substr(at_);
    return reinterpret_cast<uintptr_t>(rest.data()) % alignment == 0 ? rest.size() : 0;
  }

  // The next `count` bytes where they lie. REQUIRES: they lie in one run.
  const char* Take(size_t count) {
    const char* const taken = pieces_.front().data() + at_;
    Advance(count);
    return taken;
  }

  // Copies the next `count` bytes. REQUIRES: there are so many.
  void Copy(size_t count, char* to) {
    while (count > 0) {
      const absl::string_view part = pieces_.front().substr(at_, count);
      std::memcpy(to, part.data(), part.size());
      to += part.size();
      count -= part.size();
      Advance(part.size());
    }
  }

 private:
  void Advance(size_t count) {
    at_ += count;
    while (!pieces_.empty() && at_ >= pieces_.front().size()) {
      at_ -= pieces_.front().size();
      pieces_.remove_prefix(1);
    }
  }

  absl::Span<const absl::string_view> pieces_;
  size_t at_ = 0;  // in the first of them
};

// `channels` of those of the run, counted over the batch.
template <typename T, typename C>
void NormalizeRun(const T* x, const Run& run, ChannelRange channels, Coefficients<C>& by, T* y) {
  const ChannelRange of_run = {channels.first - run.channel, channels.count};
  if constexpr (std::is_same_v<C, ComputeType<T>>) {
    Normalize(x, run.extents, of_run, by[0] + run.channel, by[1] + run.channel, by[2] + run.channel,
              y);
  } else {
    ForEachValue(run.extents, of_run, [&](size_t i, size_t channel) {
      const size_t c = run.channel + channel;
      StoreRounded((ToDouble(x[i]) - by.At(0, c)) * by.At(1, c) + by.At(2, c), y + i);
    });
  }
}

// Normalizes the values [first, end), with `wide` in the channels of `unheld`.
template <typename T>
void NormalizeRange(absl::Span<const absl::string_view> pieces, const BatchExtents& extents,
                    size_t first, size_t end, Coefficients<ComputeType<T>>& by,
                    Coefficients<double>& wide, absl::Span<const size_t> unheld, T* y) {
  constexpr size_t kBlockValues = kBlockBytes / sizeof(T);
  alignas(64) char block[kBlockBytes];
  ValueReader reader(pieces, first * sizeof(T));
  while (first < end) {
    const size_t in_place = reader.InPlace(alignof(T)) / sizeof(T);
    // A few values in place would cost more calls than they spare copies.
    const bool copies = in_place < std::min(end - first, kBlockValues);
    const Run run = RunAt(extents, first, std::min(end - first, copies ? kBlockValues : in_place));
    const size_t bytes = run.values() * sizeof(T);
    if (copies) reader.Copy(bytes, block);
    const char* const x = copies ? block : reader.Take(bytes);
    UseParts(by, wide, unheld, {run.channel, run.extents.channels},
             [&](auto& set, ChannelRange channels) {
               NormalizeRun(reinterpret_cast<const T*>(x), run, channels, set, y + first);
             });
    first += run.values();
  }
}

// The values to cut for threads at: between samples, or else between channels, or else anywhere.
size_t CutValues(const BatchExtents& extents, size_t pieces) {
  if (extents.samples >= pieces) return extents.channels * extents.spatial;
  return extents.samples * extents.channels >= pieces ? extents.spatial : 1;
}

}  // namespace

void NormalizeByRunning(const Batch& batch, const Running& running, const Affine& affine,
                        char* output, ParallelRunner* runner) {
  const size_t bytes = batch.num_elements() * static_cast<size_t>(ElementBytes(batch.dtype()));
  const absl::string_view all(batch.data(), bytes);
  NormalizeByRunning(batch, absl::MakeConstSpan(&all, 1), running, affine, output, runner);
}

void NormalizeByRunning(const Batch& batch, absl::Span<const absl::string_view> pieces,
                        const Running& running, const Affine& affine, char* output,
                        ParallelRunner* runner) {
  const size_t values = batch.num_elements();
  if (values == 0) return;
  const BatchExtents extents = ChannelExtents(batch);
  const double eps = EpsOf(batch, affine);
  VisitDataType(batch.dtype(), [&](auto element) {
    using T = typename decltype(element)::type;
    Coefficients<ComputeType<T>> by(extents.channels);
    const ChannelRange all = {0, extents.channels};
    const auto set_coefficients = [&](auto& to) {
      return SetCoefficients(running.mean.data(), running.var.data(), eps, affine, all, to);
    };
    const bool held = set_coefficients(by);
    Coefficients<double> wide(held ? 0 : extents.channels);
    std::vector<size_t> unheld;
    if (!held) {
      set_coefficients(wide);
      unheld = Unheld<ComputeType<T>>(wide, all);
    }
    const size_t parts = PieceCount(values, *runner);
    const size_t cut = CutValues(extents, parts);
    ForPieces(values / cut, parts, *runner, [&](size_t /*piece*/, size_t first, size_t end) {
      NormalizeRange(pieces, extents, first * cut, end * cut, by, wide, unheld,
                     reinterpret_cast<T*>(output));
    });
  });
}

}  // namespace normd
