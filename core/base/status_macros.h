#ifndef NORMD_CORE_BASE_STATUS_MACROS_H_
#define NORMD_CORE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expr`, an absl::Status, is not OK.
#define NORMD_RETURN_IF_ERROR(expr)                                                  \
  do {                                                                               \
    if (absl::Status normd_status = (expr); !normd_status.ok()) return normd_status; \
  } while (false)

#define NORMD_MACRO_CONCAT_INNER(a, b) a##b
#define NORMD_MACRO_CONCAT(a, b) NORMD_MACRO_CONCAT_INNER(a, b)

// Assigns the value of `expr`, an absl::StatusOr, to `lhs`, or returns its error.
#define NORMD_ASSIGN_OR_RETURN(lhs, expr) \
  NORMD_ASSIGN_OR_RETURN_INNER(NORMD_MACRO_CONCAT(normd_status_or_, __LINE__), lhs, expr)
#define NORMD_ASSIGN_OR_RETURN_INNER(result, lhs, expr) \
  auto result = (expr);                                 \
  if (!result.ok()) return std::move(result).status();  \
  lhs = *std::move(result)

#endif  // NORMD_CORE_BASE_STATUS_MACROS_H_
