#include "server/coefficient_cache.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/tensor/tensor_view.h"
#include "server/data_batch.h"

namespace normd {
namespace {

std::shared_ptr<const NormState> MakeState(int64_t channels) {
  NormConfig config = DefaultConfig(NormKind::kBatchNorm);
  config.num_features = channels;
  return std::make_shared<const NormState>(*NormState::Create("m", config, {}, absl::Now()));
}

class CoefficientCacheTest : public testing::Test {
 protected:
  // What the cache has for a batch of `rows` rows.
  std::shared_ptr<const RunningCoefficients> Find(const std::shared_ptr<const NormState>& state,
                                                  DataType dtype, int64_t rows = 1) {
    const std::vector<int64_t> shape = {rows, state->config.num_features};
    const std::string bytes(static_cast<size_t>(rows * shape[1] * ElementBytes(dtype)), '\0');
    const auto tensor = TensorView::Create(dtype, Layout::kChannelsFirst, shape, bytes);
    return cache_.Find(state, *Batch::Create(*tensor, state->config));
  }

  CoefficientCache cache_;
};

TEST_F(CoefficientCacheTest, HasThemFromTheSecondTimeOn) {
  const auto state = MakeState(100);
  EXPECT_EQ(Find(state, DataType::kFloat32), nullptr);
  const auto coefficients = Find(state, DataType::kFloat32);
  ASSERT_NE(coefficients, nullptr);
  EXPECT_EQ(coefficients->channels(), 100U);
  // mean 0, var 1, weight 1, bias 0, eps 1e-5
  EXPECT_EQ(coefficients->center()[99], 0.0F);
  EXPECT_FLOAT_EQ(coefficients->scale()[99], 0.999995F);
  EXPECT_EQ(coefficients->offset()[99], 0.0F);
  EXPECT_EQ(Find(state, DataType::kFloat32, 32), coefficients);
}

TEST_F(CoefficientCacheTest, TakesNoOtherValueAndNoOtherDtypeForIt) {
  auto state = MakeState(4);
  for (int i = 0; i < 200; ++i) {
    Find(state, DataType::kFloat32);
    const auto coefficients = Find(state, DataType::kFloat32);
    ASSERT_NE(coefficients, nullptr);
    const auto of_half = Find(state, DataType::kFloat16);
    EXPECT_NE(of_half, coefficients);
    // A new value that may lie where the old one lay.
    state = nullptr;
    state = MakeState(4);
    ASSERT_NE(Find(state, DataType::kFloat32), coefficients);
  }
}

TEST_F(CoefficientCacheTest, LetsGoOfTheValue) {
  auto state = MakeState(4);
  const std::weak_ptr<const NormState> watched = state;
  Find(state, DataType::kFloat32);
  ASSERT_NE(Find(state, DataType::kFloat32), nullptr);
  state = nullptr;
  EXPECT_TRUE(watched.expired());
}

TEST_F(CoefficientCacheTest, LeavesAloneWhatIsNotWorthItOrCannotBe) {
  const auto state = MakeState(8);
  const auto wide = MakeState(CoefficientCache::kChannelsMax + 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Find(state, DataType::kFloat64), nullptr);
    EXPECT_EQ(Find(state, DataType::kFloat32, 33), nullptr);
    EXPECT_EQ(Find(wide, DataType::kFloat32), nullptr);
  }
  NormState beyond = *state;
  beyond.running_stats->mean[3] = 1e300;
  const auto unheld = std::make_shared<const NormState>(beyond);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Find(unheld, DataType::kFloat32), nullptr);
}

TEST_F(CoefficientCacheTest, HoldsNoMoreThanItsSlots) {
  std::vector<std::shared_ptr<const NormState>> states;
  std::vector<std::weak_ptr<const RunningCoefficients>> made;
  for (size_t i = 0; i < 4 * CoefficientCache::kSlots; ++i) {
    states.push_back(MakeState(1));
    Find(states.back(), DataType::kFloat32);
    made.push_back(Find(states.back(), DataType::kFloat32));
    EXPECT_FALSE(made.back().expired());
  }
  size_t held = 0;
  for (const auto& coefficients : made) held += !coefficients.expired();
  EXPECT_LE(held, CoefficientCache::kSlots);
  EXPECT_GT(held, CoefficientCache::kSlots / 2);
}

TEST_F(CoefficientCacheTest, IsUsedByManyThreads) {
  const std::vector<std::shared_ptr<const NormState>> states = {MakeState(3), MakeState(5)};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const auto& state = states[static_cast<size_t>(i) % 2];
        const auto coefficients = Find(state, i % 3 == 0 ? DataType::kFloat16 : DataType::kFloat32);
        if (coefficients == nullptr) continue;
        ASSERT_EQ(coefficients->channels(), static_cast<size_t>(state->config.num_features));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace normd
