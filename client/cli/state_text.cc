#include "client/cli/state_text.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/cli/json_array.h"
#include "client/cli/text.h"

namespace normd::cli {
namespace {

using nlohmann::ordered_json;

template <typename T>
ordered_json JsonVector(const std::vector<T>& values) {
  ordered_json json = ordered_json::array();
  for (const T value : values) json.push_back(JsonNumber(value));
  return json;
}

std::string TextTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", time, absl::UTCTimeZone());
}

std::string JsonTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", time, absl::UTCTimeZone());
}

// The first `count` values as texts of one column.
template <typename T>
std::vector<std::string> Column(const std::vector<T>& values, size_t count) {
  return FormatNumbers(std::vector<float>(
      values.begin(), values.begin() + static_cast<ptrdiff_t>(std::min(count, values.size()))));
}

std::string ChannelTable(const client::State& state, size_t channels_max) {
  const size_t channels = std::max(state.weight.size(), state.running_mean.size());
  if (channels == 0) return "";
  const size_t shown = std::min(channels, channels_max);
  std::vector<std::pair<std::string, std::vector<std::string>>> columns;
  if (!state.weight.empty()) {
    columns.emplace_back("weight", Column(state.weight, shown));
    columns.emplace_back("bias", Column(state.bias, shown));
  }
  if (!state.running_mean.empty()) {
    columns.emplace_back("running_mean", Column(state.running_mean, shown));
    columns.emplace_back("running_var", Column(state.running_var, shown));
  }
  Table table;
  table.AddColumn("channel", Table::Align::kRight);
  for (const auto& [title, cells] : columns) table.AddColumn(title, Table::Align::kRight);
  for (size_t channel = 0; channel < shown; ++channel) {
    std::vector<std::string> row = {absl::StrCat(channel)};
    for (const auto& [title, cells] : columns) {
      row.push_back(channel < cells.size() ? cells[channel] : "");
    }
    table.AddRow(std::move(row));
  }
  std::string text = absl::StrCat("\n", table.Format());
  if (shown < channels) {
    absl::StrAppend(&text, "and ", channels - shown, " more channels: --all shows them\n");
  }
  return text;
}

}  // namespace

ordered_json StateToJson(const client::State& state) {
  const client::StateConfig& config = state.config;
  ordered_json json = {
      {"name", state.name},
      {"config",
       {{"kind", "BATCH_NORM"},
        {"num_features", config.num_features},
        {"eps", JsonNumber(config.eps)},
        {"momentum", config.momentum ? ordered_json(*config.momentum) : ordered_json(nullptr)},
        {"cumulative_average", !config.momentum.has_value()},
        {"affine", config.affine},
        {"track_running_stats", config.track_running_stats},
        {"running_var_correction", config.correction},
        {"non_finite", config.non_finite == client::NonFinite::kRefuse ? "REFUSE" : "PROPAGATE"}}}};
  if (!state.weight.empty()) {
    json["parameters"] = {{"weight", JsonVector(state.weight)}, {"bias", JsonVector(state.bias)}};
  }
  if (config.track_running_stats) {
    ordered_json& running_stats = json["running_stats"];
    if (!state.running_mean.empty()) {
      running_stats["running_mean"] = JsonVector(state.running_mean);
      running_stats["running_var"] = JsonVector(state.running_var);
    }
    running_stats["num_batches_tracked"] = state.num_batches_tracked;
  }
  json["frozen"] = state.frozen;
  json["revision"] = state.revision;
  json["etag"] = state.etag;
  json["create_time"] = JsonTime(state.create_time);
  json["update_time"] = JsonTime(state.update_time);
  json["producer_count"] = state.producer_count;
  return json;
}

std::string StateToText(const client::State& state, size_t channels_max) {
  const client::StateConfig& config = state.config;
  const auto yes_or_no = [](bool value) { return value ? "true" : "false"; };
  Table table;
  table.AddColumn("name", Table::Align::kLeft);
  table.AddColumn(state.name, Table::Align::kLeft);
  table.AddRow({"num_features", absl::StrCat(config.num_features)});
  table.AddRow({"eps", absl::StrCat(config.eps)});
  table.AddRow(
      {"momentum", config.momentum ? absl::StrCat(*config.momentum) : "none: cumulative average"});
  table.AddRow({"affine", yes_or_no(config.affine)});
  table.AddRow({"track_running_stats", yes_or_no(config.track_running_stats)});
  table.AddRow({"running_var_correction", absl::StrCat(config.correction)});
  table.AddRow(
      {"non_finite", config.non_finite == client::NonFinite::kRefuse ? "refuse" : "propagate"});
  table.AddRow({"frozen", yes_or_no(state.frozen)});
  if (config.track_running_stats) {
    table.AddRow({"num_batches_tracked", absl::StrCat(state.num_batches_tracked)});
  }
  table.AddRow({"revision", absl::StrCat(state.revision)});
  table.AddRow({"etag", state.etag});
  table.AddRow({"producers", absl::StrCat(state.producer_count)});
  table.AddRow({"created", TextTime(state.create_time)});
  table.AddRow({"updated", TextTime(state.update_time)});
  return absl::StrCat(table.Format(), ChannelTable(state, channels_max));
}

std::string StatesToText(const std::vector<client::State>& states) {
  Table table;
  table.AddColumn("NAME", Table::Align::kLeft);
  table.AddColumn("FEATURES", Table::Align::kRight);
  table.AddColumn("BATCHES", Table::Align::kRight);
  table.AddColumn("REVISION", Table::Align::kRight);
  table.AddColumn("FROZEN", Table::Align::kLeft);
  table.AddColumn("UPDATED", Table::Align::kLeft);
  for (const client::State& state : states) {
    table.AddRow({state.name, absl::StrCat(state.config.num_features),
                  state.config.track_running_stats ? absl::StrCat(state.num_batches_tracked) : "-",
                  absl::StrCat(state.revision), state.frozen ? "frozen" : "-",
                  TextTime(state.update_time)});
  }
  return table.Format();
}

}  // namespace normd::cli
