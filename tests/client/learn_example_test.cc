// The README's example of learning, against a real server. tests/house compares the two texts.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "client/cpp/client.h"
#include "gtest/gtest.h"
#include "tests/client/server_testing.h"
#include "tests/testing/temp_dir.h"

namespace normd::client {
namespace {

// As in the README:
// Learns, over RPC, the affine map that takes a normalized batch to 3 x - 1. Returns the last loss.
absl::StatusOr<double> LearnAffineMap(Client& client, int64_t steps) {
  StateConfig config = StateConfig::BatchNorm(2);
  config.optimizer = Optimizer::Sgd(/*lr=*/0.5);
  if (auto state = client.CreateState("learn/affine", config); !state.ok()) return state.status();

  const Batch input = Batch::Own({4, 2}, std::vector<float>{-3, 2, -1, 4, 1, 6, 3, 8});
  const std::vector<float> normalized = {-1.3416F, -1.3416F, -0.4472F, -0.4472F,
                                         0.4472F,  0.4472F,  1.3416F,  1.3416F};
  TrainOptions forward_options;
  forward_options.return_output = true;
  BackwardOptions backward_options;
  backward_options.apply = true;
  backward_options.apply_options.producer_id = "trainer";
  double loss = 0;
  for (int64_t step = 1; step <= steps; ++step) {
    auto forward = client.Train("learn/affine", input, forward_options);
    if (!forward.ok()) return forward.status();
    loss = 0;  // mean((y - target)^2)
    std::vector<float> grad_output;
    for (size_t i = 0; i < normalized.size(); ++i) {
      const float off = forward->output->values()[i] - (3 * normalized[i] - 1);
      loss += off * off / 8;
      grad_output.push_back(2 * off / 8);
    }
    backward_options.apply_options.sequence = step;
    auto backward =
        client.Backward("learn/affine", input, Batch::Own({4, 2}, grad_output), backward_options);
    if (!backward.ok()) return backward.status();
  }
  return loss;
}
// End of what stands in the README.

TEST(LearnExampleTest, ReachesTheLossThatTheReadmeStates) {
  const normd::testing::TempDir folder;
  const auto server = StartServerIn(folder);
  ASSERT_NE(server, nullptr);
  const auto client = Client::Connect({.address = server->address()});
  ASSERT_TRUE(client.ok()) << client.status();

  const auto first = LearnAffineMap(**client, 1);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_NEAR(*first, 5.0, 1e-3);
  ASSERT_TRUE((*client)->DeleteState("learn/affine").ok());
  const auto last = LearnAffineMap(**client, 60);
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_LT(*last, 1e-8);

  const auto state = (*client)->GetState("learn/affine");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->optimizer_step, 60);
  for (size_t c = 0; c < 2; ++c) {
    EXPECT_NEAR(state->weight[c], 3, 1e-3);
    EXPECT_NEAR(state->bias[c], -1, 1e-3);
  }
}

}  // namespace
}  // namespace normd::client
