#include <cstring>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/base/parallel.h"
#include "core/norm/normalization.h"
#include "tests/benchmarks/contender.h"

namespace normd::bench {
namespace {

double CpuSeconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

NormConfig ConfigOf(const BenchCase& bench_case) {
  NormConfig config = DefaultConfig(bench_case.kind);
  config.num_features = bench_case.num_features();
  config.num_groups = bench_case.num_groups;
  config.affine = true;
  if (bench_case.kind == NormKind::kLayerNorm) config.normalized_shape = {config.num_features};
  return config;
}

class Ours : public Contender {
 public:
  Ours(const BenchCase& bench_case, BenchValues& values)
      : bench_case_(bench_case),
        config_(ConfigOf(bench_case)),
        values_(values),
        weight_(values.weight.begin(), values.weight.end()),
        bias_(values.bias.begin(), values.bias.end()),
        running_mean_(values.num_features, kRunningMean),
        running_var_(values.num_features, kRunningVar) {}

  absl::StatusOr<double> Run(int times) override {
    if (bench_case_.direction == Direction::kBackward && moments_.mean.empty()) {
      if (const absl::Status status = ComputeMomentsOfForward(); !status.ok()) return status;
    }
    absl::Status status;
    const double seconds = MeasureSeconds(times, [&] { status.Update(Once()); });
    if (!status.ok()) return status;
    return seconds;
  }

  absl::StatusOr<double> Checksum() override { return values_.Checksum(); }

 private:
  TensorBytes BytesOf(const float* values) const {
    return TensorBytes(absl::string_view(reinterpret_cast<const char*>(values),
                                         values_.num_values * sizeof(float)));
  }

  absl::StatusOr<Batch> MakeBatch() const {
    const auto tensor = TensorView::Create(DataType::kFloat32, bench_case_.layout,
                                           bench_case_.shape, BytesOf(values_.x.get()));
    if (!tensor.ok()) return tensor.status();
    return Batch::Create(*tensor, config_);
  }

  absl::Status ComputeMomentsOfForward() {
    const auto batch = MakeBatch();
    if (!batch.ok()) return batch.status();
    auto moments = ComputeBatchMoments(*batch, NonFinitePolicy::kRefuse, ParallelRunner::Inline());
    if (!moments.ok()) return moments.status();
    moments_ = *std::move(moments);
    return absl::OkStatus();
  }

  // All that a request pays for beside the wire.
  absl::Status Once() {
    const auto batch = MakeBatch();
    if (!batch.ok()) return batch.status();
    ParallelRunner* const runner = ParallelRunner::Inline();
    const Affine affine = {.eps = kEps, .weight = weight_, .bias = bias_};
    char* const result = reinterpret_cast<char*>(values_.result.get());
    switch (bench_case_.direction) {
      case Direction::kEval:
        NormalizeByRunning(*batch, {running_mean_, running_var_}, affine, result, runner);
        break;
      case Direction::kTrain:
        return NormalizeAndComputeMoments(*batch, NonFinitePolicy::kRefuse, affine, result, runner)
            .status();
      case Direction::kBackward:
        BackwardByItself(*batch, BytesOf(values_.grad_output.get()), moments_, affine,
                         /*wants_parameters=*/true, result, runner);
        break;
    }
    return absl::OkStatus();
  }

  const BenchCase bench_case_;
  const NormConfig config_;
  BenchValues& values_;
  const std::vector<double> weight_;
  const std::vector<double> bias_;
  const std::vector<double> running_mean_;
  const std::vector<double> running_var_;
  Moments moments_;  // of the forward call
};

class Copy : public Contender {
 public:
  explicit Copy(BenchValues& values) : values_(values) {}

  absl::StatusOr<double> Run(int times) override {
    return MeasureSeconds(times, [&] {
      std::memcpy(values_.result.get(), values_.x.get(), values_.num_values * sizeof(float));
    });
  }

  absl::StatusOr<double> Checksum() override { return values_.Checksum(); }

 private:
  BenchValues& values_;
};

}  // namespace

double MeasureSeconds(int times, absl::FunctionRef<void()> work) {
  const double start = CpuSeconds();
  for (int i = 0; i < times; ++i) {
    work();
    // The result is wanted, so that no call can be left out.
    asm volatile("" : : : "memory");
  }
  return (CpuSeconds() - start) / times;
}

std::unique_ptr<Contender> MakeOurs(const BenchCase& bench_case, BenchValues& values) {
  return std::make_unique<Ours>(bench_case, values);
}

std::unique_ptr<Contender> MakeCopy(BenchValues& values) { return std::make_unique<Copy>(values); }

}  // namespace normd::bench
