#ifndef NORMD_TESTS_CORE_KERNELS_SIMD_TARGET_TEST_H_
#define NORMD_TESTS_CORE_KERNELS_SIMD_TARGET_TEST_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "hwy/highway.h"

namespace normd {

// The SIMD targets that are compiled in and that this CPU can run; the fallback is one of them.
inline std::vector<int64_t> RunnableTargets() {
  hwy::SetSupportedTargetsForTest(0);
  std::vector<int64_t> targets = hwy::SupportedAndGeneratedTargets();
  const int64_t fallback = HWY_STATIC_TARGET;
  for (int64_t target : targets) {
    if (target == fallback) return targets;
  }
  targets.push_back(fallback);
  return targets;
}

// Runs each test once for every runnable target.
class SimdTargetTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }
};

inline std::string TargetParamName(const testing::TestParamInfo<int64_t>& info) {
  return hwy::TargetName(info.param);
}

}  // namespace normd

// Makes the tests of `suite`, a SimdTargetTest, run on every target.
#define NORMD_INSTANTIATE_FOR_TARGETS(suite)                                              \
  INSTANTIATE_TEST_SUITE_P(Targets, suite, testing::ValuesIn(::normd::RunnableTargets()), \
                           ::normd::TargetParamName)

#endif  // NORMD_TESTS_CORE_KERNELS_SIMD_TARGET_TEST_H_
