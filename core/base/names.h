#ifndef NORMD_CORE_BASE_NAMES_H_
#define NORMD_CORE_BASE_NAMES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace normd {

// OK when `name` is the name of a state: segments of [A-Za-z0-9_.-] joined by '/', no empty, "." or
// ".." segment, 1 to kStateNameBytesMax bytes. Errors: STATE_NAME_INVALID, with the rule broken.
absl::Status CheckStateName(absl::string_view name);

// OK when `prefix` can begin a name: at most kStateNameBytesMax bytes of [A-Za-z0-9_.-/]; may be
// empty. Errors: STATE_NAME_INVALID.
absl::Status CheckStateNamePrefix(absl::string_view prefix);

// What a client gave, as a message can show it: escaped, and cut when long.
std::string EscapedAndCut(absl::string_view given);

}  // namespace normd

#endif  // NORMD_CORE_BASE_NAMES_H_
