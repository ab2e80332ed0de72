#ifndef NORMD_TESTS_BENCHMARKS_CONTENDER_H_
#define NORMD_TESTS_BENCHMARKS_CONTENDER_H_

#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "tests/benchmarks/bench_case.h"

namespace normd::bench {

// One that does the operation of a case, on one thread.
class Contender {
 public:
  virtual ~Contender() = default;

  // Does the operation `times` times; seconds of CPU that one took.
  virtual absl::StatusOr<double> Run(int times) = 0;

  // BenchValues::Checksum of the result. REQUIRES: Run was called and nobody ran since.
  virtual absl::StatusOr<double> Checksum() = 0;
};

// Each works on `values` and writes values.result. `values` outlives the contender.

// What the server calls: core/norm/normalization.h, with ParallelRunner::Inline().
std::unique_ptr<Contender> MakeOurs(const BenchCase& bench_case, BenchValues& values);

// memcpy of the batch: the limit of what reads a batch and writes one.
std::unique_ptr<Contender> MakeCopy(BenchValues& values);

// oneDNN on the plain layout; null for the kinds that oneDNN 2.6 does not have.
std::unique_ptr<Contender> MakeOnednn(const BenchCase& bench_case, BenchValues& values);

// Seconds of this thread's CPU that one of `times` calls of `work` takes.
double MeasureSeconds(int times, absl::FunctionRef<void()> work);

}  // namespace normd::bench

#endif  // NORMD_TESTS_BENCHMARKS_CONTENDER_H_
