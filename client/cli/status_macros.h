#ifndef NORMD_CLIENT_CLI_STATUS_MACROS_H_
#define NORMD_CLIENT_CLI_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expr`, an absl::Status, is not OK.
#define NORMD_CLI_RETURN_IF_ERROR(expr)                                        \
  do {                                                                         \
    if (absl::Status cli_status = (expr); !cli_status.ok()) return cli_status; \
  } while (false)

#define NORMD_CLI_CONCAT_INNER(a, b) a##b
#define NORMD_CLI_CONCAT(a, b) NORMD_CLI_CONCAT_INNER(a, b)

// Assigns the value of `expr`, an absl::StatusOr, to `lhs`, or returns its error.
#define NORMD_CLI_ASSIGN_OR_RETURN(lhs, expr) \
  NORMD_CLI_ASSIGN_OR_RETURN_INNER(NORMD_CLI_CONCAT(cli_status_or_, __LINE__), lhs, expr)
#define NORMD_CLI_ASSIGN_OR_RETURN_INNER(result, lhs, expr) \
  auto result = (expr);                                     \
  if (!result.ok()) return std::move(result).status();      \
  lhs = *std::move(result)

#endif  // NORMD_CLIENT_CLI_STATUS_MACROS_H_
