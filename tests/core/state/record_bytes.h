#ifndef NORMD_TESTS_CORE_STATE_RECORD_BYTES_H_
#define NORMD_TESTS_CORE_STATE_RECORD_BYTES_H_

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/casts.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "core/state/norm_state.h"

namespace normd {

// `record` with the checksum that fits its other bytes. REQUIRES: at least 8 bytes.
inline std::string WithChecksum(std::string record) {
  const auto checksum = static_cast<uint32_t>(crc32(
      0, reinterpret_cast<const Bytef*>(record.data() + 4), static_cast<uInt>(record.size() - 4)));
  for (int i = 0; i < 4; ++i) record[i] = static_cast<char>((checksum >> (8 * i)) & 0xff);
  return record;
}

template <typename To, typename Values>
std::string Bits(const Values& values) {
  std::string text;
  for (const auto value : values) absl::StrAppend(&text, absl::Hex(absl::bit_cast<To>(value)), " ");
  return text;
}

inline std::string DescribeSlots(const OptimizerSlots& slots) {
  return absl::StrCat(slots.step, " first ", Bits<uint64_t>(slots.first), "second ",
                      Bits<uint64_t>(slots.second), "third ", Bits<uint64_t>(slots.third));
}

// Every part of `state` as text, floats bit by bit: equal texts, equal states.
inline std::string Describe(const NormState& state) {
  std::string text = absl::StrCat("name ", state.name, "\n");
  const NormConfig& config = state.config;
  absl::StrAppend(
      &text, "kind ", static_cast<int>(config.kind), " num_features ", config.num_features, " eps ",
      Bits<uint64_t>(std::vector<double>{config.eps}), "of_dtype ", config.eps_of_dtype,
      " momentum ",
      config.momentum.has_value() ? Bits<uint64_t>(std::vector<double>{*config.momentum}) : "none ",
      "affine ", config.affine, " track ", config.track_running_stats, " correction ",
      config.running_var_correction, " non_finite ", static_cast<int>(config.non_finite),
      " normalized_shape ", absl::StrJoin(config.normalized_shape, ","), " num_groups ",
      config.num_groups, " parameter_dtype ", static_cast<int>(config.parameter_dtype), "\n");
  if (config.optimizer.has_value()) {
    const OptimizerConfig& optimizer = *config.optimizer;
    absl::StrAppend(&text, "optimizer ", static_cast<int>(optimizer.algorithm), " ",
                    Bits<uint64_t>(std::vector<double>{
                        optimizer.lr, optimizer.momentum, optimizer.dampening,
                        optimizer.weight_decay, optimizer.beta1, optimizer.beta2, optimizer.eps}),
                    optimizer.nesterov, optimizer.amsgrad, optimizer.maximize, "\n");
  }
  absl::StrAppend(&text, "weight ", Bits<uint64_t>(state.weight), "\n");
  absl::StrAppend(&text, "bias ", Bits<uint64_t>(state.bias), "\n");
  absl::StrAppend(&text, "weight slots ", DescribeSlots(state.weight_slots), "\n");
  absl::StrAppend(&text, "bias slots ", DescribeSlots(state.bias_slots), "\n");
  absl::StrAppend(&text, "optimizer_step ", state.optimizer_step, "\n");
  if (state.calibration.has_value()) {
    const Calibration& calibration = *state.calibration;
    absl::StrAppend(&text, "calibration ", calibration.id, " method ",
                    static_cast<int>(calibration.method), " batches ", calibration.num_batches,
                    " count ", calibration.count, " mean ", Bits<uint64_t>(calibration.mean),
                    "spread ", Bits<uint64_t>(calibration.spread), "\n");
  }
  if (state.running_stats.has_value()) {
    absl::StrAppend(&text, "mean ", Bits<uint64_t>(state.running_stats->mean), "\n");
    absl::StrAppend(&text, "var ", Bits<uint64_t>(state.running_stats->var), "\n");
    absl::StrAppend(&text, "batches ", state.running_stats->num_batches_tracked, "\n");
  } else {
    absl::StrAppend(&text, "not tracked\n");
  }
  absl::StrAppend(&text, "frozen ", state.frozen, " revision ", state.revision,
                  " settings_revision ", state.settings_revision, "\n");
  absl::StrAppend(&text, "create ", absl::FormatTime(state.create_time, absl::UTCTimeZone()),
                  " update ", absl::FormatTime(state.update_time, absl::UTCTimeZone()), "\n");
  for (const ProducerTable::Entry& entry : state.producers.entries()) {
    absl::StrAppend(&text, "producer ", entry.producer_id, " ", entry.sequence, " ",
                    absl::FormatTime(entry.update_time, absl::UTCTimeZone()), "\n");
  }
  return text;
}

}  // namespace normd

#endif  // NORMD_TESTS_CORE_STATE_RECORD_BYTES_H_
