#include "tests/testing/seeded_random.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace normd {
namespace {

class SeededRandomTest : public testing::Test {
 protected:
  ~SeededRandomTest() override { unsetenv("NORMD_TEST_SEED"); }

  static void SetSeed(const char* seed) { setenv("NORMD_TEST_SEED", seed, /*overwrite=*/1); }
};

TEST_F(SeededRandomTest, TheSameSeedGivesTheSameNumbers) {
  SetSeed("18446744073709551615");
  SeededRandom a;
  SeededRandom b;
  SetSeed("7");
  SeededRandom other;
  EXPECT_EQ(a.seed(), UINT64_MAX);
  const uint64_t first = a();
  EXPECT_EQ(b(), first);
  EXPECT_NE(other(), first);
}

TEST_F(SeededRandomTest, AFailureTellsTheCommandThatRunsTheSameAgain) {
  SetSeed("7");
  EXPECT_EXIT(
      {
        {
          const SeededRandom random;
          ADD_FAILURE();
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(0),
      "again: NORMD_TEST_SEED=7 /.*/seeded_random_test --gtest_filter=SeededRandomTest\\."
      "AFailureTellsTheCommandThatRunsTheSameAgain");
}

TEST_F(SeededRandomTest, ASeedThatIsNoNumberEndsTheBinary) {
  SetSeed("7x");
  EXPECT_DEATH(SeededRandom(), "NORMD_TEST_SEED is '7x', expected a number");
}

}  // namespace
}  // namespace normd
