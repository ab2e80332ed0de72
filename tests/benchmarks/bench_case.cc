#include "tests/benchmarks/bench_case.h"

#include <cmath>
#include <functional>
#include <numeric>

#include "absl/strings/str_cat.h"

namespace normd::bench {
namespace {

// Value `index` of sequence `salt`, in [-1, 1).
float ValueAt(uint32_t salt, size_t index) {
  const uint32_t mixed = (static_cast<uint32_t>(index) + salt) * 2654435761u;
  return static_cast<float>(mixed >> 8) * 0x1p-23f - 1;
}

hwy::AlignedFreeUniquePtr<float[]> MakeValues(uint32_t salt, size_t count) {
  auto values = hwy::AllocateAligned<float>(count);
  for (size_t i = 0; i < count; ++i) values[i] = ValueAt(salt, i);
  return values;
}

void AddDirections(const BenchCase& bench_case, std::vector<BenchCase>& cases) {
  for (const Direction direction : {Direction::kEval, Direction::kTrain, Direction::kBackward}) {
    if (direction == Direction::kEval && bench_case.kind != NormKind::kBatchNorm) continue;
    cases.push_back(bench_case);
    cases.back().direction = direction;
  }
}

}  // namespace

absl::string_view DirectionName(Direction direction) {
  switch (direction) {
    case Direction::kEval:
      return "eval";
    case Direction::kTrain:
      return "train";
    case Direction::kBackward:
      return "backward";
  }
  return "unknown";
}

std::string BenchCase::Name() const {
  return absl::StrCat(NormKindName(kind), " ", shape_name, " ", DirectionName(direction));
}

int64_t BenchCase::num_values() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

int64_t BenchCase::num_features() const {
  const bool last = kind == NormKind::kLayerNorm || layout == Layout::kChannelsLast;
  return last ? shape.back() : shape[1];
}

std::vector<BenchCase> AllCases() {
  std::vector<BenchCase> cases;
  const struct {
    const char* name;
    std::vector<int64_t> shape;
  } shapes[] = {{"32x10", {32, 10}},
                {"256x1024", {256, 1024}},
                {"4096x256", {4096, 256}},
                {"8x256x28x28", {8, 256, 28, 28}},
                {"32x64x56x56", {32, 64, 56, 56}},
                {"64x2048x7x7", {64, 2048, 7, 7}},
                {"1x64x512x512", {1, 64, 512, 512}}};
  BenchCase batch_norm;
  for (const auto& shape : shapes) {
    batch_norm.shape_name = shape.name;
    batch_norm.shape = shape.shape;
    AddDirections(batch_norm, cases);
  }
  AddDirections({.shape_name = "channels_last 32x64x56x56",
                 .layout = Layout::kChannelsLast,
                 .shape = {32, 56, 56, 64}},
                cases);
  AddDirections({.shape_name = "128x768", .kind = NormKind::kLayerNorm, .shape = {128, 768}},
                cases);
  AddDirections({.shape_name = "8x512x768", .kind = NormKind::kLayerNorm, .shape = {8, 512, 768}},
                cases);
  for (const auto& shape : {shapes[3], shapes[4]}) {
    AddDirections({.shape_name = shape.name, .kind = NormKind::kInstanceNorm, .shape = shape.shape},
                  cases);
    AddDirections({.shape_name = shape.name,
                   .kind = NormKind::kGroupNorm,
                   .shape = shape.shape,
                   .num_groups = 32},
                  cases);
  }
  return cases;
}

BenchValues::BenchValues(const BenchCase& bench_case)
    : num_values(static_cast<size_t>(bench_case.num_values())),
      num_features(static_cast<size_t>(bench_case.num_features())),
      x(MakeValues(1, num_values)),
      grad_output(MakeValues(2, num_values)),
      result(MakeValues(3, num_values)),
      weight(num_features),
      bias(num_features) {
  for (size_t c = 0; c < num_features; ++c) {
    weight[c] = ValueAt(4, c) + 1;
    bias[c] = ValueAt(5, c);
  }
}

double BenchValues::Checksum() const {
  double sum = 0;
  for (size_t i = 0; i < num_values; ++i) sum += std::abs(static_cast<double>(result[i]));
  return sum;
}

}  // namespace normd::bench
