// How fast the kernels are, beside the limit that memory sets.
//
// For every shape: Copy (memcpy of the batch: the limit of anything that reads a batch and writes
// one), Moments (ComputeMoments), Normalize, and Train (ComputeMoments, then Normalize by the
// result, ChannelsPerPass channels at a time). bytes_per_second counts what must be moved: the
// batch once for Moments, twice for Copy, Normalize and Train. of_copy = time / time of Copy for
// the shape in this process; lower is better, 1 is the limit of Normalize.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/kernels/moments.h"
#include "core/kernels/normalize.h"

namespace normd {
namespace {

// The rounds of a measured copy last at least this long together; the fastest counts.
constexpr double kCopySeconds = .02;

// Time on the CPU, so that a busy machine disturbs little.
double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Shape {
  std::string name;
  BatchExtents extents;
};

const std::vector<Shape>& Shapes() {
  static const auto* const kShapes = new std::vector<Shape>{
      {"32x10", {32, 10, 1}},
      {"256x1024", {256, 1024, 1}},
      {"4096x256", {4096, 256, 1}},
      {"8x256x28x28", {8, 256, 28 * 28}},
      {"32x64x56x56", {32, 64, 56 * 56}},
      {"64x2048x7x7", {64, 2048, 7 * 7}},
      {"1x64x512x512", {1, 64, 512 * 512}},
      {"channels_last_32x64x56x56", {32 * 56 * 56, 64, 1}},
  };
  return *kShapes;
}

// A batch, its output and its coefficients; every page touched.
struct Buffers {
  explicit Buffers(const BatchExtents& e)
      : extents(e),
        x(e.samples * e.channels * e.spatial),
        y(x.size()),
        mean(e.channels),
        m2(e.channels),
        center(e.channels, .5f),
        scale(e.channels, 1.5f),
        offset(e.channels, .25f) {
    std::minstd_rand random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (float& value : x) value = uniform(random);
  }

  int64_t bytes() const { return static_cast<int64_t>(x.size() * sizeof(float)); }

  void Copy() { std::memcpy(y.data(), x.data(), x.size() * sizeof(float)); }

  void Moments() { ComputeMoments(x.data(), extents, mean.data(), m2.data()); }

  void Normalize() {
    normd::Normalize(x.data(), extents, center.data(), scale.data(), offset.data(), y.data());
  }

  void Train() {
    const size_t pass = ChannelsPerPass(extents);
    for (size_t first = 0; first < extents.channels; first += pass) {
      TrainRange({first, std::min(pass, extents.channels - first)});
    }
  }

  void TrainRange(ChannelRange range) {
    ComputeMoments(x.data(), extents, range, mean.data(), m2.data());
    const double count = static_cast<double>(extents.samples * extents.spatial);
    for (size_t c = range.first; c < range.first + range.count; ++c) {
      center[c] = static_cast<float>(mean[c]);
      scale[c] = static_cast<float>(1 / std::sqrt(m2[c] / count + 1e-5));
      offset[c] = -static_cast<float>(mean[c] - static_cast<double>(center[c])) * scale[c];
    }
    normd::Normalize(x.data(), extents, range, center.data(), scale.data(), offset.data(),
                     y.data());
  }

  BatchExtents extents;
  std::vector<float> x;
  std::vector<float> y;
  std::vector<double> mean;
  std::vector<double> m2;
  std::vector<float> center;
  std::vector<float> scale;
  std::vector<float> offset;
};

// CPU seconds of one copy.
double CopySeconds(Buffers& buffers) {
  const int64_t copies_a_round = std::max<int64_t>(1, (int64_t{1} << 20) / buffers.bytes());
  double fastest = std::numeric_limits<double>::infinity();
  const double end = CpuSeconds() + kCopySeconds;
  double start = CpuSeconds();
  while (start < end) {
    for (int64_t i = 0; i < copies_a_round; ++i) {
      buffers.Copy();
      benchmark::ClobberMemory();
    }
    const double now = CpuSeconds();
    fastest = std::min(fastest, (now - start) / static_cast<double>(copies_a_round));
    start = now;
  }
  return fastest;
}

void Run(benchmark::State& state, const Shape& shape, void (Buffers::*work)(),
         int64_t batches_moved) {
  Buffers buffers(shape.extents);
  (buffers.*work)();
  const double copy_before = CopySeconds(buffers);
  const double start = CpuSeconds();
  for (auto _ : state) {
    (buffers.*work)();
    benchmark::ClobberMemory();
  }
  const double seconds = (CpuSeconds() - start) / static_cast<double>(state.iterations());
  const double copy_seconds = std::min(copy_before, CopySeconds(buffers));
  state.SetBytesProcessed(state.iterations() * batches_moved * buffers.bytes());
  state.counters["of_copy"] = seconds / copy_seconds;
}

void RegisterAll() {
  const struct {
    const char* name;
    void (Buffers::*work)();
    int64_t batches_moved;
  } kernels[] = {{"Copy", &Buffers::Copy, 2},
                 {"Moments", &Buffers::Moments, 1},
                 {"Normalize", &Buffers::Normalize, 2},
                 {"Train", &Buffers::Train, 2}};
  for (const Shape& shape : Shapes()) {
    for (const auto& kernel : kernels) {
      benchmark::RegisterBenchmark((std::string(kernel.name) + "/" + shape.name).c_str(), Run,
                                   shape, kernel.work, kernel.batches_moved)
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace
}  // namespace normd

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  normd::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
