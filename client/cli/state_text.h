#ifndef NORMD_CLIENT_CLI_STATE_TEXT_H_
#define NORMD_CLIENT_CLI_STATE_TEXT_H_

#include <string>
#include <vector>

#include "client/cpp/state.h"
#include "nlohmann/json.hpp"

namespace normd::cli {

// The whole state, field names as in proto/normd/v1/state.proto; every number reads back exactly.
// Values without a JSON number are "NaN", "Infinity" and "-Infinity". The tensors are left out
// when they are empty.
nlohmann::ordered_json StateToJson(const client::State& state);

// For people: config and counters, then a row a channel, rounded to 4 decimals. At most
// `channels_max` channels, with a hint when there are more.
std::string StateToText(const client::State& state, size_t channels_max);

// For people: a row a state.
std::string StatesToText(const std::vector<client::State>& states);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_STATE_TEXT_H_
