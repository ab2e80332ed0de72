#include "client/cli/state_text.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/cli/config_json.h"
#include "client/cli/json_array.h"
#include "client/cli/text.h"

namespace normd::cli {
namespace {

using nlohmann::ordered_json;

ordered_json JsonVector(const std::vector<double>& values) {
  ordered_json json = ordered_json::array();
  for (const double value : values) json.push_back(JsonNumber(value));
  return json;
}

const char* MethodName(client::CalibrationMethod method) {
  return method == client::CalibrationMethod::kPooled ? "POOLED" : "MEAN_OF_BATCHES";
}

// "ADAM, lr 0.001, beta1 0.9, ...".
std::string OptimizerToText(const ordered_json& optimizer) {
  std::string text = optimizer.at("algorithm").get<std::string>();
  for (const auto& [name, value] : optimizer.items()) {
    if (name != "algorithm") absl::StrAppend(&text, ", ", name, " ", value.dump());
  }
  return text;
}

// "POOLED, 3 batches, 96 values a channel, id 5f3-2"; one from before ids has none.
std::string CalibrationToText(const client::Calibration& calibration, client::NormKind kind) {
  const std::string& id = calibration.calibration_id;
  return absl::StrCat(MethodName(calibration.method), ", ", calibration.num_batches, " batches, ",
                      calibration.count, " values a channel",
                      kind == client::NormKind::kInstanceNorm ? " and sample" : "",
                      id.empty() ? "" : ", id ", id);
}

std::string TextTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", time, absl::UTCTimeZone());
}

std::string JsonTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", time, absl::UTCTimeZone());
}

// The first `count` values as texts of one column.
std::vector<std::string> Column(const std::vector<double>& values, size_t count) {
  return FormatNumbers(absl::MakeConstSpan(values).subspan(0, count));
}

std::string ChannelTable(const client::State& state, size_t channels_max) {
  const size_t channels = std::max(state.weight.size(), state.running_mean.size());
  if (channels == 0) return "";
  const size_t shown = std::min(channels, channels_max);
  std::vector<std::pair<std::string, std::vector<std::string>>> columns;
  if (!state.weight.empty()) {
    columns.emplace_back("weight", Column(state.weight, shown));
    if (!state.bias.empty()) columns.emplace_back("bias", Column(state.bias, shown));
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
  ordered_json json;
  json["name"] = state.name;
  json["config"] = ConfigToJson(config);
  if (!state.weight.empty()) {
    json["parameters"]["weight"] = JsonVector(state.weight);
    if (client::HasBias(config)) json["parameters"]["bias"] = JsonVector(state.bias);
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
  if (config.optimizer.has_value()) json["optimizer_step"] = state.optimizer_step;
  if (state.calibration.has_value()) {
    json["calibration"] = {{"method", MethodName(state.calibration->method)},
                           {"num_batches", state.calibration->num_batches},
                           {"count", state.calibration->count},
                           {"calibration_id", state.calibration->calibration_id}};
  }
  return json;
}

std::string StateToText(const client::State& state, size_t channels_max) {
  const client::StateConfig& config = state.config;
  const auto yes_or_no = [](bool value) { return value ? "true" : "false"; };
  Table table;
  table.AddColumn("name", Table::Align::kLeft);
  table.AddColumn(state.name, Table::Align::kLeft);
  const ordered_json fields = ConfigToJson(config);
  for (const auto& [name, value] : fields.items()) {
    if (name == "cumulative_average") continue;
    std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (name == "momentum" && value.is_null()) text = "none: cumulative average";
    if (name == "eps" && value.is_null()) text = "none: of the batch's dtype";
    if (name == "optimizer") text = OptimizerToText(value);
    table.AddRow({name, std::move(text)});
  }
  if (config.optimizer.has_value()) {
    table.AddRow({"optimizer_step", absl::StrCat(state.optimizer_step)});
  }
  if (state.calibration.has_value()) {
    table.AddRow({"calibration", CalibrationToText(*state.calibration, config.kind)});
  }
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
  table.AddColumn("KIND", Table::Align::kLeft);
  table.AddColumn("FEATURES", Table::Align::kRight);
  table.AddColumn("BATCHES", Table::Align::kRight);
  table.AddColumn("REVISION", Table::Align::kRight);
  table.AddColumn("OPTIMIZER", Table::Align::kLeft);
  table.AddColumn("FROZEN", Table::Align::kLeft);
  table.AddColumn("UPDATED", Table::Align::kLeft);
  for (const client::State& state : states) {
    const client::StateConfig& config = state.config;
    table.AddRow({state.name, KindName(config.kind), absl::StrCat(config.num_features),
                  config.track_running_stats ? absl::StrCat(state.num_batches_tracked) : "-",
                  absl::StrCat(state.revision),
                  config.optimizer ? AlgorithmName(config.optimizer->algorithm) : "-",
                  state.frozen ? "frozen" : "-", TextTime(state.update_time)});
  }
  return table.Format();
}

}  // namespace normd::cli
