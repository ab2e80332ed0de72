#ifndef NORMD_TESTS_TESTING_SEEDED_RANDOM_H_
#define NORMD_TESTS_TESTING_SEEDED_RANDOM_H_

#include <cstdint>
#include <random>

namespace normd {

// The random numbers of one test, for the distributions of <random>; a local of the test or a
// member of its fixture. The seed is that of the environment variable NORMD_TEST_SEED, or else a
// random one. It is printed at once, and when the test has failed by the end, the command that runs
// it again with the same. A NORMD_TEST_SEED that is no number ends the binary. Thread-compatible.
class SeededRandom {
 public:
  // As <random> calls it. NOLINTNEXTLINE(readability-identifier-naming)
  using result_type = std::mt19937_64::result_type;

  SeededRandom();
  ~SeededRandom();
  SeededRandom(const SeededRandom&) = delete;
  SeededRandom& operator=(const SeededRandom&) = delete;

  static constexpr result_type min() { return std::mt19937_64::min(); }
  static constexpr result_type max() { return std::mt19937_64::max(); }
  result_type operator()() { return generator_(); }

  uint64_t seed() const { return seed_; }

 private:
  const uint64_t seed_;
  std::mt19937_64 generator_;
};

}  // namespace normd

#endif  // NORMD_TESTS_TESTING_SEEDED_RANDOM_H_
