#include <algorithm>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "tests/benchmarks/contender.h"

// Of libgomp, on which Debian's oneDNN runs. It counted the CPUs before this process was pinned.
extern "C" void omp_set_num_threads(int threads);

namespace normd::bench {
namespace {

using dnnl::memory;
using dnnl::prop_kind;

memory::desc DescOf(const BenchCase& bench_case) {
  const std::vector<int64_t>& shape = bench_case.shape;
  if (bench_case.kind == NormKind::kLayerNorm) {
    const int64_t columns = bench_case.num_features();
    return {{bench_case.num_values() / columns, columns},
            memory::data_type::f32,
            memory::format_tag::ab};
  }
  if (shape.size() == 2) {
    // The same bytes as nc, for which oneDNN has no fast way.
    return {{shape[0], shape[1], 1, 1}, memory::data_type::f32, memory::format_tag::nhwc};
  }
  if (bench_case.layout == Layout::kChannelsLast) {
    return {
        {shape[0], shape[3], shape[1], shape[2]}, memory::data_type::f32, memory::format_tag::nhwc};
  }
  return {shape, memory::data_type::f32, memory::format_tag::nchw};
}

// A primitive with what it reads and writes.
class Onednn : public Contender {
 public:
  Onednn(const BenchCase& bench_case, BenchValues& values)
      : values_(values), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    const memory::desc desc = DescOf(bench_case);
    if (bench_case.kind == NormKind::kLayerNorm) {
      Make<dnnl::layer_normalization_forward, dnnl::layer_normalization_backward>(
          bench_case.direction, desc);
    } else {
      Make<dnnl::batch_normalization_forward, dnnl::batch_normalization_backward>(
          bench_case.direction, desc);
    }
  }

  absl::StatusOr<double> Run(int times) override {
    return MeasureSeconds(times, [&] {
      primitive_.execute(stream_, arguments_);
      stream_.wait();
    });
  }

  absl::StatusOr<double> Checksum() override { return values_.Checksum(); }

 private:
  template <class Forward, class Backward>
  void Make(Direction direction, const memory::desc& desc) {
    const bool eval = direction == Direction::kEval;
    const float eps = static_cast<float>(kEps);
    dnnl::normalization_flags flags = dnnl::normalization_flags::use_scale_shift;
    if (eval) flags |= dnnl::normalization_flags::use_global_stats;
    const typename Forward::primitive_desc forward(
        {eval ? prop_kind::forward_inference : prop_kind::forward_training, desc, eps, flags},
        engine_);
    arguments_ = {{DNNL_ARG_SRC, memory(desc, engine_, values_.x.get())},
                  {DNNL_ARG_DST, memory(desc, engine_, values_.result.get())},
                  {DNNL_ARG_MEAN, Filled(forward.mean_desc(), kRunningMean)},
                  {DNNL_ARG_VARIANCE, Filled(forward.variance_desc(), kRunningVar)},
                  {DNNL_ARG_SCALE_SHIFT, ScaleShift(forward.weights_desc())}};
    primitive_ = Forward(forward);
    if (direction != Direction::kBackward) return;
    // Leaves the batch's mean and variance in the arguments.
    primitive_.execute(stream_, arguments_);
    stream_.wait();
    const typename Backward::primitive_desc backward(
        {prop_kind::backward, desc, desc, eps, dnnl::normalization_flags::use_scale_shift}, engine_,
        forward);
    arguments_.erase(DNNL_ARG_DST);
    arguments_[DNNL_ARG_DIFF_DST] = memory(desc, engine_, values_.grad_output.get());
    arguments_[DNNL_ARG_DIFF_SRC] = memory(desc, engine_, values_.result.get());
    arguments_[DNNL_ARG_DIFF_SCALE_SHIFT] = memory(backward.diff_weights_desc(), engine_);
    primitive_ = Backward(backward);
  }

  memory Filled(const memory::desc& desc, float value) {
    memory filled(desc, engine_);
    float* const data = static_cast<float*>(filled.get_data_handle());
    std::fill(data, data + desc.get_size() / sizeof(float), value);
    return filled;
  }

  memory ScaleShift(const memory::desc& desc) {
    memory both(desc, engine_);
    float* const data = static_cast<float*>(both.get_data_handle());
    std::copy(values_.weight.begin(), values_.weight.end(), data);
    std::copy(values_.bias.begin(), values_.bias.end(), data + values_.num_features);
    return both;
  }

  BenchValues& values_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::unordered_map<int, memory> arguments_;
};

}  // namespace

std::unique_ptr<Contender> MakeOnednn(const BenchCase& bench_case, BenchValues& values) {
  if (bench_case.kind != NormKind::kBatchNorm && bench_case.kind != NormKind::kLayerNorm) {
    return nullptr;
  }
  omp_set_num_threads(1);
  return std::make_unique<Onednn>(bench_case, values);
}

}  // namespace normd::bench
