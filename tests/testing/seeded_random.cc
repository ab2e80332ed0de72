#include "tests/testing/seeded_random.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "absl/strings/numbers.h"

namespace normd {
namespace {

uint64_t PickSeed() {
  const char* const wanted = std::getenv("NORMD_TEST_SEED");
  if (wanted == nullptr) return std::random_device()();
  uint64_t seed = 0;
  if (!absl::SimpleAtoi(wanted, &seed)) {
    std::cerr << "NORMD_TEST_SEED is '" << wanted << "', expected a number" << std::endl;
    std::abort();
  }
  return seed;
}

}  // namespace

SeededRandom::SeededRandom() : seed_(PickSeed()), generator_(seed_) {
  std::cout << "NORMD_TEST_SEED=" << seed_ << std::endl;
}

SeededRandom::~SeededRandom() {
  if (!testing::Test::HasFailure()) return;
  const testing::TestInfo& test = *testing::UnitTest::GetInstance()->current_test_info();
  std::cerr << "again: NORMD_TEST_SEED=" << seed_ << " "
            << std::filesystem::read_symlink("/proc/self/exe").string()
            << " --gtest_filter=" << test.test_suite_name() << "." << test.name() << std::endl;
}

}  // namespace normd
