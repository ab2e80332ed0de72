#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/kernels/backward.h"
#include "core/kernels/backward_plan.h"
#include "tests/core/kernels/backward_testing.h"
#include "tests/core/kernels/element_type_test.h"
#include "tests/core/kernels/guarded_array.h"
#include "tests/core/kernels/sizes.h"

namespace normd {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// What a call is given and what is wanted of it.
struct RowCase {
  bool weighted;
  bool grad_weight;
  bool grad_bias;
};

constexpr RowCase kRowCases[] = {
    {true, true, true},  {true, true, false},  {true, false, true},  {true, false, false},
    {false, true, true}, {false, true, false}, {false, false, true}, {false, false, false},
};

// What the gradients of the columns held before.
constexpr double kSoFar = 1000;

template <typename T>
struct RowBatch {
  RowBatch(size_t row_count, size_t column_count, double center, double width)
      : rows(row_count),
        columns(column_count),
        x(rows * columns, 1, Even(center, width)),
        dy(rows * columns, 2, Even(.5, 1)),
        mean(rows, 3, Even(center, width / 2)),
        invstd(rows, 4, Even(1, .5)),
        weight(columns, 5, Even(1, 1)) {}

  const ComputeType<T>* Weight(bool weighted) const { return weighted ? weight.data() : nullptr; }

  size_t rows;
  size_t columns;
  RandomArray<T> x;
  RandomArray<T> dy;
  RandomArray<double> mean;
  RandomArray<double> invstd;
  RandomArray<ComputeType<T>> weight;
};

struct RowResult {
  RowResult(size_t rows, size_t columns)
      : sum(rows, kUntouched),
        dot(rows, kUntouched),
        grad_weight(columns, kSoFar),
        grad_bias(columns, kSoFar) {}
  FilledArray<double> sum;
  FilledArray<double> dot;
  FilledArray<double> grad_weight;
  FilledArray<double> grad_bias;
};

template <typename T>
void Compute(const RowBatch<T>& batch, const RowCase& wanted, RowResult& result) {
  ComputeRowGradientSums(batch.x.data(), batch.dy.data(), batch.rows, batch.columns,
                         batch.mean.data(), batch.invstd.data(), batch.Weight(wanted.weighted),
                         result.sum.data(), result.dot.data(),
                         wanted.grad_weight ? result.grad_weight.data() : nullptr,
                         wanted.grad_bias ? result.grad_bias.data() : nullptr);
  EXPECT_TRUE(result.sum.CanaryIntact() && result.dot.CanaryIntact());
  EXPECT_TRUE(result.grad_weight.CanaryIntact() && result.grad_bias.CanaryIntact());
}

void ExpectSum(const ReferenceSum& expected, double actual, const char* name, size_t index) {
  ASSERT_NEAR(actual, static_cast<double>(expected.value), expected.tolerance())
      << name << "[" << index << "]";
}

template <typename T>
void ExpectSumsExact(const RowBatch<T>& batch, const RowCase& wanted) {
  SCOPED_TRACE(absl::StrCat("[", batch.rows, ",", batch.columns, "] weighted ", wanted.weighted,
                            " grad_weight ", wanted.grad_weight, " grad_bias ", wanted.grad_bias));
  RowResult result(batch.rows, batch.columns);
  Compute(batch, wanted, result);

  std::vector<ReferenceSum> grad_weight(batch.columns);
  std::vector<ReferenceSum> grad_bias(batch.columns);
  for (size_t i = 0; i < batch.columns; ++i) {
    grad_weight[i].Add(kSoFar);
    grad_bias[i].Add(kSoFar);
  }
  for (size_t row = 0; row < batch.rows; ++row) {
    ReferenceSum sum;
    ReferenceSum dot;
    for (size_t i = 0; i < batch.columns; ++i) {
      const long double dy = ToDouble(batch.dy[row * batch.columns + i]);
      const long double centered =
          static_cast<long double>(ToDouble(batch.x[row * batch.columns + i])) - batch.mean[row];
      const long double weight = wanted.weighted ? batch.weight[i] : 1;
      sum.Add(dy * weight);
      dot.Add(dy * centered * weight);
      if (wanted.grad_weight) grad_weight[i].Add(dy * centered * batch.invstd[row]);
      if (wanted.grad_bias) grad_bias[i].Add(dy);
    }
    ASSERT_NO_FATAL_FAILURE(ExpectSum(sum, result.sum[row], "row_sum", row));
    ASSERT_NO_FATAL_FAILURE(ExpectSum(dot, result.dot[row], "row_dot", row));
  }
  // What is not wanted still holds what it held.
  for (size_t i = 0; i < batch.columns; ++i) {
    ASSERT_NO_FATAL_FAILURE(ExpectSum(grad_weight[i], result.grad_weight[i], "grad_weight", i));
    ASSERT_NO_FATAL_FAILURE(ExpectSum(grad_bias[i], result.grad_bias[i], "grad_bias", i));
  }
}

class RowGradientSumsTest : public BackwardTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(RowGradientSumsTest, kElementTypes);

TEST_P(RowGradientSumsTest, ExactAroundLaneCounts) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (size_t rows : kSizesAroundLanes) {
      for (size_t columns : kSizesAroundLanes) {
        const RowBatch<T> batch(rows, columns, 3, 2);
        for (const RowCase& wanted : kRowCases) {
          ASSERT_NO_FATAL_FAILURE(ExpectSumsExact(batch, wanted));
        }
      }
    }
  });
}

TEST_P(RowGradientSumsTest, ExactAcrossTiles) {
  const struct {
    size_t rows;
    size_t columns;
  } shapes[] = {
      {9, kRowTileColumns - 1},
      {9, kRowTileColumns},
      {9, kRowTileColumns + 1},
      {6, 3 * kRowTileColumns + 5},
      {128, 768},
      {1, 100003},
      {20001, 5},
      {5000, 19},
  };
  WithElementType([&shapes](auto type) {
    using T = typename decltype(type)::type;
    for (const auto& shape : shapes) {
      const RowBatch<T> batch(shape.rows, shape.columns, -5, 3);
      for (const RowCase& wanted : kRowCases) {
        ASSERT_NO_FATAL_FAILURE(ExpectSumsExact(batch, wanted));
      }
    }
  });
}

class RowGradientSumsPrecisionTest : public BackwardTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(RowGradientSumsPrecisionTest, kFloatingTypes);

TEST_P(RowGradientSumsPrecisionTest, ExactOnIllConditionedData) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const RowCase& wanted : kRowCases) {
      ASSERT_NO_FATAL_FAILURE(ExpectSumsExact(RowBatch<T>(100, 1100, 1e6, 2), wanted));
      ASSERT_NO_FATAL_FAILURE(ExpectSumsExact(RowBatch<T>(300, 67, 1e30, 1e27), wanted));
      ASSERT_NO_FATAL_FAILURE(ExpectSumsExact(RowBatch<T>(1, 200'000, 1e6, 2), wanted));
    }
  });
}

TEST_P(RowGradientSumsTest, NonFiniteStaysInItsRowAndColumn) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    constexpr size_t kRows = 11;
    for (size_t columns : {1, 3, 19, 1030}) {
      for (const RowCase& wanted : kRowCases) {
        RowBatch<T> batch(kRows, columns, 3, 2);
        RowResult expected(kRows, columns);
        Compute(batch, wanted, expected);
        for (size_t at : {size_t{0}, kRows * columns / 2, kRows * columns - 1}) {
          const T clean = batch.dy[at];
          batch.dy[at] = FromDouble<T>(kNan);
          RowResult result(kRows, columns);
          Compute(batch, wanted, result);
          batch.dy[at] = clean;
          for (size_t row = 0; row < kRows; ++row) {
            const bool spoilt = row == at / columns;
            ASSERT_EQ(std::isnan(result.sum[row]), spoilt) << "row " << row;
            ASSERT_EQ(std::isnan(result.dot[row]), spoilt) << "row " << row;
            if (spoilt) continue;
            ASSERT_EQ(result.sum[row], expected.sum[row]);
            ASSERT_EQ(result.dot[row], expected.dot[row]);
          }
          for (size_t i = 0; i < columns; ++i) {
            const bool spoilt = i == at % columns;
            ASSERT_EQ(std::isnan(result.grad_weight[i]), spoilt && wanted.grad_weight);
            ASSERT_EQ(std::isnan(result.grad_bias[i]), spoilt && wanted.grad_bias);
            if (spoilt) continue;
            ASSERT_EQ(result.grad_weight[i], expected.grad_weight[i]);
            ASSERT_EQ(result.grad_bias[i], expected.grad_bias[i]);
          }
        }
      }
    }
  });
}

TEST_P(RowGradientSumsTest, OfNothingAreZero) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (const RowCase& wanted : kRowCases) {
      ASSERT_NO_FATAL_FAILURE(ExpectSumsExact(RowBatch<T>(0, 7, 0, 1), wanted));
      ASSERT_NO_FATAL_FAILURE(ExpectSumsExact(RowBatch<T>(7, 0, 0, 1), wanted));
    }
  });
}

// Checks dx of all values, in place too.
template <typename T>
void ExpectInputGradientCorrect(RowBatch<T>& batch, bool weighted) {
  SCOPED_TRACE(absl::StrCat("[", batch.rows, ",", batch.columns, "] weighted ", weighted));
  const size_t values = batch.x.size();
  const TestCoefficients<T> k(batch.rows);
  const ComputeType<T>* weight = batch.Weight(weighted);
  const auto compute = [&](const T* x, const T* dy, T* dx) {
    ComputeRowInputGradient(x, dy, batch.rows, batch.columns, k.get(), weight, dx);
  };
  FilledArray<T> dx(values, FromDouble<T>(kUntouched));
  compute(batch.x.data(), batch.dy.data(), dx.data());
  ASSERT_TRUE(dx.CanaryIntact());
  for (size_t i = 0; i < values; ++i) {
    const size_t row = i / batch.columns;
    const double of_column = weighted ? ToDouble(batch.weight[i % batch.columns]) : 1;
    ASSERT_TRUE(k.IsClose(batch.x[i], batch.dy[i], of_column, row, dx[i])) << "value " << i;
  }
  // In place of one, then of the other, of which a copy is left.
  const GuardedArray<T> x_copy(std::vector<T>(batch.x.begin(), batch.x.end()));
  compute(batch.x.data(), batch.dy.data(), batch.x.data());
  compute(x_copy.data(), batch.dy.data(), batch.dy.data());
  ASSERT_TRUE(batch.x.CanaryIntact() && batch.dy.CanaryIntact());
  ASSERT_TRUE(SameBits(batch.x, dx)) << "in place of x";
  ASSERT_TRUE(SameBits(batch.dy, dx)) << "in place of dy";
}

class RowInputGradientTest : public BackwardTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(RowInputGradientTest, kElementTypes);

TEST_P(RowInputGradientTest, CorrectAroundLaneCountsAlsoInPlace) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (size_t rows : kSizesAroundLanes) {
      for (size_t columns : kSizesAroundLanes) {
        for (bool weighted : {true, false}) {
          RowBatch<T> batch(rows, columns, 1, 3);
          ASSERT_NO_FATAL_FAILURE(ExpectInputGradientCorrect(batch, weighted));
        }
      }
    }
    for (bool weighted : {true, false}) {
      RowBatch<T> batch(70, 1100, 1, 3);
      ASSERT_NO_FATAL_FAILURE(ExpectInputGradientCorrect(batch, weighted));
    }
  });
}

TEST_P(RowInputGradientTest, WritesNothingForNoRowsOrColumns) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    for (bool weighted : {true, false}) {
      RowBatch<T> no_rows(0, 7, 1, 3);
      ExpectInputGradientCorrect(no_rows, weighted);
      RowBatch<T> no_columns(7, 0, 1, 3);
      ExpectInputGradientCorrect(no_columns, weighted);
    }
  });
}

class RowInputGradientLargeTest : public BackwardTest {};

NORMD_INSTANTIATE_FOR_TARGETS_AND_TYPES(RowInputGradientLargeTest, kFloatingTypes);

TEST_P(RowInputGradientLargeTest, CorrectBeyondTheCache) {
  WithElementType([](auto type) {
    using T = typename decltype(type)::type;
    const size_t values_min = kStreamBytesMin / sizeof(T);
    RowBatch<T> narrow(values_min / 2051 + 1, 2051, 1, 3);
    ASSERT_NO_FATAL_FAILURE(ExpectInputGradientCorrect(narrow, true));
    RowBatch<T> wide(3, values_min / 3 + 1, 1, 3);
    ASSERT_NO_FATAL_FAILURE(ExpectInputGradientCorrect(wide, false));
  });
}

}  // namespace
}  // namespace normd
