#include "server/coefficient_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/tensor_view.h"

namespace normd {
namespace {

// Its running mean is `mean` in every channel.
NormState MakeState(const std::string& name, int64_t channels, double mean) {
  NormConfig config = DefaultConfig(NormKind::kBatchNorm);
  config.num_features = channels;
  NormState state = *NormState::Create(name, config, {}, absl::UnixEpoch());
  for (double& value : state.running_stats->mean) value = mean;
  return state;
}

class CoefficientCacheTest : public testing::Test {
 protected:
  // What the cache has for a batch of `rows` rows.
  std::shared_ptr<const RunningCoefficients> Find(const NormState& state, int64_t rows = 1,
                                                  DataType dtype = DataType::kFloat32) {
    const std::vector<int64_t> shape = {rows, state.config.num_features};
    const std::string bytes(static_cast<size_t>(rows * shape[1] * ElementBytes(dtype)), '\0');
    const auto tensor = TensorView::Create(dtype, Layout::kChannelsFirst, shape, bytes);
    return cache_.Find(state, *Batch::Create(*tensor, state.config));
  }

  CoefficientCache cache_;
};

TEST_F(CoefficientCacheTest, HasThemFromTheSecondTimeOn) {
  const NormState state = MakeState("m", 100, 3);
  EXPECT_EQ(Find(state), nullptr);
  const auto coefficients = Find(state);
  ASSERT_NE(coefficients, nullptr);
  EXPECT_EQ(coefficients->channels(), 100U);
  // var 1, weight 1, bias 0, eps 1e-5
  EXPECT_EQ(coefficients->center()[99], 3.0F);
  EXPECT_FLOAT_EQ(coefficients->scale()[99], 0.999995F);
  EXPECT_EQ(coefficients->offset()[99], 0.0F);
  EXPECT_EQ(Find(state, 32), coefficients);
  EXPECT_EQ(Find(state, 1, DataType::kBfloat16), coefficients);
}

TEST_F(CoefficientCacheTest, TakesNoOtherValueForIt) {
  const NormState state = MakeState("m", 4, 1);
  NormState later = MakeState("m", 4, 2);
  later.revision = state.revision + 1;
  NormState created_anew = MakeState("m", 4, 3);
  created_anew.create_time += absl::Microseconds(1);
  for (int i = 0; i < 3; ++i) {
    for (const NormState* const asked :
         std::vector<const NormState*>{&state, &later, &created_anew}) {
      const double mean = asked->running_stats->mean[0];
      for (int time = 0; time < 3; ++time) {
        const auto coefficients = Find(*asked);
        if (time == 0) continue;
        ASSERT_NE(coefficients, nullptr);
        EXPECT_EQ(coefficients->center()[0], static_cast<float>(mean));
      }
    }
  }
}

// More states than there are slots.
TEST_F(CoefficientCacheTest, StatesThatShareASlotHaveTheirOwn) {
  constexpr int kStates = 1000;
  std::vector<NormState> states;
  for (int i = 0; i < kStates; ++i) states.push_back(MakeState(absl::StrCat("m", i), 2, i));
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kStates; ++i) {
      Find(states[static_cast<size_t>(i)]);
      const auto coefficients = Find(states[static_cast<size_t>(i)]);
      ASSERT_NE(coefficients, nullptr);
      EXPECT_EQ(coefficients->center()[1], static_cast<float>(i));
    }
  }
}

TEST_F(CoefficientCacheTest, HoldsNoMoreThanItsSlots) {
  std::vector<std::weak_ptr<const RunningCoefficients>> made;
  for (size_t i = 0; i < 16 * kCoefficientSlots; ++i) {
    const NormState state = MakeState(absl::StrCat("m", i), 1, 0);
    Find(state);
    made.push_back(Find(state));
    EXPECT_FALSE(made.back().expired());
  }
  size_t held = 0;
  for (const auto& coefficients : made) held += coefficients.expired() ? 0 : 1;
  EXPECT_LE(held, kCoefficientSlots);
  EXPECT_GT(held, kCoefficientSlots / 2);
}

TEST_F(CoefficientCacheTest, LeavesAloneWhatIsNotWorthItOrCannotBe) {
  const NormState state = MakeState("m", 8, 0);
  const NormState wide = MakeState("wide", kCoefficientChannelsMax + 1, 0);
  const NormState unheld = MakeState("unheld", 8, 1e300);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Find(state, 1, DataType::kFloat64), nullptr);
    EXPECT_EQ(Find(state, 33), nullptr);
    EXPECT_EQ(Find(state, 0), nullptr);
    EXPECT_EQ(Find(wide), nullptr);
    EXPECT_EQ(Find(unheld), nullptr);
  }
}

TEST_F(CoefficientCacheTest, IsUsedByManyThreads) {
  std::vector<NormState> states;
  for (int i = 0; i < 100; ++i) states.push_back(MakeState(absl::StrCat("m", i), 5, i));
  std::atomic<int> found = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < 20000; ++i) {
        const NormState& state = states[i / 3 % states.size()];
        const auto coefficients = Find(state);
        if (coefficients == nullptr) continue;
        ++found;
        EXPECT_EQ(coefficients->center()[4], static_cast<float>(state.running_stats->mean[4]));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(found, 1000);
}

}  // namespace
}  // namespace normd
