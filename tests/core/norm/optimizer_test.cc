#include "core/norm/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/error_matchers.h"

namespace normd {
namespace {

using testing::Contains;
using testing::DoubleEq;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

OptimizerConfig Sgd() { return {.algorithm = OptimizerAlgorithm::kSgd}; }
OptimizerConfig Adam() { return {.algorithm = OptimizerAlgorithm::kAdam}; }
OptimizerConfig AdamW() { return {.algorithm = OptimizerAlgorithm::kAdamW}; }

// A step of one value.
double Step(const OptimizerConfig& config, double grad, double value, OptimizerSlots& slots) {
  StepParameter(config, absl::MakeConstSpan(&grad, 1), absl::MakeSpan(&value, 1), slots);
  return value;
}

TEST(OptimizerConfigTest, DefaultsAreThoseOfTorch) {
  const OptimizerConfig config;
  EXPECT_EQ(config.lr, 1e-3);
  EXPECT_EQ(config.momentum, 0);
  EXPECT_EQ(config.dampening, 0);
  EXPECT_FALSE(config.nesterov);
  EXPECT_EQ(config.weight_decay, 0);
  EXPECT_EQ(config.beta1, .9);
  EXPECT_EQ(config.beta2, .999);
  EXPECT_EQ(config.eps, 1e-8);
  EXPECT_FALSE(config.amsgrad);
  EXPECT_FALSE(config.maximize);
  for (const OptimizerConfig& good : {Sgd(), Adam(), AdamW()}) {
    EXPECT_TRUE(CheckOptimizerConfig(good).ok());
  }
}

TEST(OptimizerConfigTest, EndsOfTheRangesAreTaken) {
  const double below_one = std::nextafter(1.0, 0.0);
  std::vector<OptimizerConfig> good(6);
  good[0] = {.lr = 0, .momentum = 1e9, .dampening = -3, .weight_decay = 1e300, .maximize = true};
  good[1] = {.lr = 1e300, .momentum = 1e-300, .nesterov = true};
  good[2] = {.algorithm = OptimizerAlgorithm::kAdam, .beta1 = 0, .beta2 = 0, .eps = 0};
  good[3] = {.algorithm = OptimizerAlgorithm::kAdam, .beta1 = below_one, .beta2 = below_one};
  good[4] = {.algorithm = OptimizerAlgorithm::kAdamW, .eps = 1e300, .amsgrad = true};
  good[5] = {.algorithm = OptimizerAlgorithm::kAdamW, .weight_decay = 5, .maximize = true};
  for (const OptimizerConfig& config : good) {
    EXPECT_TRUE(CheckOptimizerConfig(config).ok()) << CheckOptimizerConfig(config);
  }
}

struct BadCase {
  std::string name;
  std::string field;
  std::string message;
  OptimizerConfig config;
};

std::vector<BadCase> BadCases() {
  constexpr auto kAdam = OptimizerAlgorithm::kAdam;
  constexpr auto kAdamW = OptimizerAlgorithm::kAdamW;
  return {
      {"AlgorithmUnknown",
       "algorithm",
       "algorithm is 4, expected SGD (1), ADAM (2) or ADAMW (3)",
       {.algorithm = static_cast<OptimizerAlgorithm>(4)}},
      {"LrNegative", "lr", "lr is -0.1, expected finite and >= 0", {.lr = -0.1}},
      {"LrNan", "lr", "lr is nan, expected finite and >= 0", {.lr = kNan}},
      {"LrInf", "lr", "lr is inf, expected finite and >= 0", {.algorithm = kAdam, .lr = kInf}},
      {"MomentumNegative",
       "momentum",
       "momentum is -1, expected finite and >= 0",
       {.momentum = -1}},
      {"MomentumInf", "momentum", "momentum is inf, expected finite and >= 0", {.momentum = kInf}},
      {"DampeningNan", "dampening", "dampening is nan, expected finite", {.dampening = kNan}},
      {"DampeningInf", "dampening", "dampening is -inf, expected finite", {.dampening = -kInf}},
      {"NesterovWithoutMomentum",
       "nesterov",
       "nesterov is true with momentum 0 and dampening 0, expected momentum > 0 and dampening 0",
       {.nesterov = true}},
      {"NesterovWithDampening",
       "nesterov",
       "nesterov is true with momentum 0.9 and dampening 0.5, expected momentum > 0 and dampening "
       "0",
       {.momentum = .9, .dampening = .5, .nesterov = true}},
      {"WeightDecayNegative",
       "weight_decay",
       "weight_decay is -1, expected finite and >= 0",
       {.weight_decay = -1}},
      {"WeightDecayNan",
       "weight_decay",
       "weight_decay is nan, expected finite and >= 0",
       {.algorithm = kAdamW, .weight_decay = kNan}},
      {"Beta1One", "beta1", "beta1 is 1, expected >= 0 and < 1", {.algorithm = kAdam, .beta1 = 1}},
      {"Beta1Negative",
       "beta1",
       "beta1 is -0.5, expected >= 0 and < 1",
       {.algorithm = kAdam, .beta1 = -.5}},
      {"Beta2One", "beta2", "beta2 is 1, expected >= 0 and < 1", {.algorithm = kAdamW, .beta2 = 1}},
      {"Beta2Nan",
       "beta2",
       "beta2 is nan, expected >= 0 and < 1",
       {.algorithm = kAdam, .beta2 = kNan}},
      {"EpsNegative",
       "eps",
       "eps is -1e-08, expected finite and >= 0",
       {.algorithm = kAdam, .eps = -1e-8}},
      {"EpsInf", "eps", "eps is inf, expected finite and >= 0", {.algorithm = kAdamW, .eps = kInf}},
  };
}

class BadOptimizerTest : public testing::TestWithParam<BadCase> {};

TEST_P(BadOptimizerTest, IsRefused) {
  const absl::Status status = CheckOptimizerConfig(GetParam().config);
  EXPECT_THAT(status, IsError(Reason::kOptimizerInvalid, "optimizer." + GetParam().message));
  EXPECT_THAT(GetErrorMetadata(status),
              Contains(Pair("field", "config.optimizer." + GetParam().field)));
}

INSTANTIATE_TEST_SUITE_P(Values, BadOptimizerTest, testing::ValuesIn(BadCases()),
                         [](const auto& bad) { return bad.param.name; });

// One case of tests/data/optimizer_figures.json, which optimizer_figures.py beside it makes.
struct TorchCase {
  std::string name;
  OptimizerConfig config;
  nlohmann::json figures;
};

void PrintTo(const TorchCase& torch_case, std::ostream* out) { *out << torch_case.name; }

OptimizerConfig ConfigOf(const std::string& algorithm, const nlohmann::json& options) {
  OptimizerConfig config = algorithm == "SGD" ? Sgd() : algorithm == "ADAM" ? Adam() : AdamW();
  const std::vector<std::pair<std::string, double OptimizerConfig::*>> numbers = {
      {"lr", &OptimizerConfig::lr},
      {"momentum", &OptimizerConfig::momentum},
      {"dampening", &OptimizerConfig::dampening},
      {"weight_decay", &OptimizerConfig::weight_decay},
      {"beta1", &OptimizerConfig::beta1},
      {"beta2", &OptimizerConfig::beta2},
      {"eps", &OptimizerConfig::eps}};
  const std::vector<std::pair<std::string, bool OptimizerConfig::*>> switches = {
      {"nesterov", &OptimizerConfig::nesterov},
      {"amsgrad", &OptimizerConfig::amsgrad},
      {"maximize", &OptimizerConfig::maximize}};
  size_t known = 0;
  for (const auto& [name, member] : numbers) {
    if (!options.contains(name)) continue;
    config.*member = options[name].get<double>();
    ++known;
  }
  for (const auto& [name, member] : switches) {
    if (!options.contains(name)) continue;
    config.*member = options[name].get<bool>();
    ++known;
  }
  EXPECT_EQ(known, options.size()) << options;
  return config;
}

std::vector<TorchCase> TorchCases() {
  std::ifstream file(NORMD_OPTIMIZER_FIGURES);
  if (!file) return {};
  std::vector<TorchCase> cases;
  for (const nlohmann::json& figures : nlohmann::json::parse(file)) {
    cases.push_back({.name = figures["name"],
                     .config = ConfigOf(figures["algorithm"], figures["options"]),
                     .figures = figures});
  }
  return cases;
}

// The gradients of optimizer_figures.py.
std::vector<double> Gradient(int step) {
  std::vector<double> gradient;
  for (int i = 0; i < 3; ++i) {
    gradient.push_back(((31 * step * step + 57 * i + 13 * step * i) % 257 - 128) / 64.0);
  }
  return gradient;
}

// Torch fuses some multiplications and additions, which moves a last digit now and then: 4.4e-16
// seen, 2e-15 allowed; parameters and slots stay below 4.
void ExpectClose(const std::vector<double>& actual, const std::vector<double>& expected,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], 2e-15) << what << " " << i;
  }
}

class TorchTest : public testing::TestWithParam<TorchCase> {};

TEST_P(TorchTest, TwoHundredStepsAreThoseOfTorch) {
  const auto& [name, config, figures] = GetParam();
  ASSERT_TRUE(CheckOptimizerConfig(config).ok()) << CheckOptimizerConfig(config);
  std::vector<double> parameter = {1.5, -0.25, 0};
  OptimizerSlots slots;
  int compared = 0;
  for (int step = 1; step <= 200; ++step) {
    StepParameter(config, Gradient(step), absl::MakeSpan(parameter), slots);
    const auto shown = figures["parameters"].find(std::to_string(step));
    if (shown == figures["parameters"].end()) continue;
    ExpectClose(parameter, shown->get<std::vector<double>>(), "step " + std::to_string(step));
    ++compared;
  }
  EXPECT_EQ(compared, 4);
  EXPECT_EQ(slots.step, 200);
  std::vector<std::vector<double>> expected_slots = figures["slots"];
  expected_slots.resize(3);
  ExpectClose(slots.first, expected_slots[0], "first");
  ExpectClose(slots.second, expected_slots[1], "second");
  ExpectClose(slots.third, expected_slots[2], "third");
}

INSTANTIATE_TEST_SUITE_P(Figures, TorchTest, testing::ValuesIn(TorchCases()),
                         [](const auto& torch_case) { return torch_case.param.name; });

// Without the file TorchTest would have no case and pass.
TEST(TorchFiguresTest, AreThere) { EXPECT_EQ(TorchCases().size(), 21U) << NORMD_OPTIMIZER_FIGURES; }

TEST(SgdTest, WithoutMomentumKeepsNoBuffer) {
  OptimizerConfig config = Sgd();
  config.lr = .5;
  OptimizerSlots slots;
  EXPECT_EQ(Step(config, 2, 10, slots), 9);
  EXPECT_EQ(slots.step, 1);
  EXPECT_THAT(slots.first, IsEmpty());
}

TEST(SgdTest, FirstBufferIsTheGradientUndampened) {
  OptimizerConfig config = Sgd();
  config.lr = 1;
  config.momentum = .5;
  config.dampening = .75;
  OptimizerSlots slots;
  EXPECT_EQ(Step(config, 4, 0, slots), -4);
  EXPECT_THAT(slots.first, ElementsAre(4));
  EXPECT_EQ(Step(config, 8, 0, slots), -4);
  EXPECT_THAT(slots.first, ElementsAre(.5 * 4 + .25 * 8));
}

// As in torch, which keeps momentum_buffer in the optimizer's state.
TEST(SgdTest, BufferRestsWhileMomentumIsZero) {
  OptimizerConfig config = Sgd();
  config.momentum = .5;
  OptimizerSlots slots;
  Step(config, 4, 0, slots);
  config.momentum = 0;
  Step(config, 100, 0, slots);
  EXPECT_THAT(slots.first, ElementsAre(4));
  config.momentum = .5;
  Step(config, 6, 0, slots);
  EXPECT_THAT(slots.first, ElementsAre(.5 * 4 + 6));
}

TEST(AdamTest, FirstStepIsTheLearningRateWhateverTheGradient) {
  OptimizerConfig config = Adam();
  config.eps = 0;
  for (const double grad : {1e-100, 1.0, 1e100}) {
    OptimizerSlots slots;
    EXPECT_NEAR(Step(config, grad, 1, slots), 1 - 1e-3, 1e-15) << grad;
  }
}

TEST(AdamTest, WeightDecayIsOfTheGradientAndThatOfAdamwIsNot) {
  for (const auto& [config, expected] :
       {std::pair(Adam(), 10 - 1e-3), std::pair(AdamW(), 10 * (1 - 1e-3 * .5))}) {
    OptimizerConfig decaying = config;
    decaying.weight_decay = .5;
    OptimizerSlots slots;
    EXPECT_NEAR(Step(decaying, 0, 10, slots), expected, 1e-11);
  }
}

TEST(AdamTest, AmsgradKeepsTheLargestSquare) {
  OptimizerConfig config = Adam();
  config.beta2 = .5;
  config.amsgrad = true;
  OptimizerSlots slots;
  Step(config, 4, 0, slots);
  EXPECT_THAT(slots.third, ElementsAre(8));
  Step(config, 0, 0, slots);
  EXPECT_THAT(slots.second, ElementsAre(4));
  EXPECT_THAT(slots.third, ElementsAre(8));
  Step(config, 8, 0, slots);
  EXPECT_THAT(slots.third, ElementsAre(.5 * 4 + .5 * 64));
}

TEST(AdamTest, AmsgradThatBeginsLaterBeginsWithTheSquareOfThen) {
  OptimizerConfig config = Adam();
  config.beta2 = .5;
  OptimizerSlots slots;
  Step(config, 4, 0, slots);
  EXPECT_THAT(slots.third, IsEmpty());
  config.amsgrad = true;
  Step(config, 0, 0, slots);
  EXPECT_THAT(slots.third, ElementsAre(4));
}

TEST(AdamTest, NanStaysInAmsgradAsInTorchMaximum) {
  OptimizerConfig config = Adam();
  config.amsgrad = true;
  OptimizerSlots slots;
  Step(config, kNan, 0, slots);
  EXPECT_TRUE(std::isnan(slots.third[0]));
  slots.second = {1};
  Step(config, 1, 0, slots);
  EXPECT_TRUE(std::isnan(slots.third[0]));
}

TEST(AdamTest, BiasCorrectionEndsWithTheSteps) {
  OptimizerConfig config = Adam();
  config.eps = 0;
  OptimizerSlots slots = {.step = 1'000'000'000, .first = {1}, .second = {4}};
  EXPECT_THAT(Step(config, 1, 0, slots), DoubleEq(-1e-3 * 1 / std::sqrt(4 * .999 + .001)));
}

TEST(StepParameterTest, ValuesStepByThemselves) {
  for (OptimizerConfig config : {Sgd(), Adam(), AdamW()}) {
    if (config.algorithm == OptimizerAlgorithm::kSgd) config.momentum = .9;
    std::vector<double> together = {1, -2, 3};
    OptimizerSlots slots;
    for (int step = 1; step <= 5; ++step) {
      StepParameter(config, Gradient(step), absl::MakeSpan(together), slots);
    }
    for (int i = 0; i < 3; ++i) {
      double alone = std::vector<double>{1, -2, 3}[i];
      OptimizerSlots own_slots;
      for (int step = 1; step <= 5; ++step) {
        alone = Step(config, Gradient(step)[i], alone, own_slots);
      }
      EXPECT_EQ(together[i], alone);
      EXPECT_EQ(slots.first[i], own_slots.first[0]);
    }
  }
}

}  // namespace
}  // namespace normd
